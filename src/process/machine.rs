//! Steps about the machine on which the crash happened.

use super::draft::Draft;
use crate::crash::walk::SystemInfo;

/// The system information in the dump; empty if there is no walk.
fn system(draft: &Draft) -> SystemInfo {
    let walk = draft.walk.as_ref();
    walk.map(|w| w.system_info.clone()).unwrap_or_default()
}

pub(crate) fn cpu(draft: &mut Draft) -> Result<(), String> {
    let system = system(draft);
    let raw = draft.input.raw;
    let sent = |key: &str| raw.annotation(key).map(str::to_owned);
    draft.set(
        "cpu_arch",
        system
            .cpu_arch
            .or_else(|| sent("CPUArchitecture"))
            .unwrap_or("unknown".into()),
    );
    draft.set("cpu_count", system.cpu_count.unwrap_or(0));
    draft.set_some("cpu_info", system.cpu_info.or_else(|| sent("CPUInfo")));
    draft.set_some("cpu_microcode_version", system.cpu_microcode_version);
    Ok(())
}

pub(crate) fn os(draft: &mut Draft) -> Result<(), String> {
    let system = system(draft);
    let raw = draft.input.raw;
    let name = system
        .os
        .or_else(|| raw.annotation("OS").map(str::to_owned))
        .unwrap_or("Unknown".into());
    let version = system
        .os_ver
        .or_else(|| raw.annotation("OSVersion").map(str::to_owned))
        .unwrap_or_default();
    let lsb = draft
        .walk
        .as_ref()
        .and_then(|w| w.lsb_release.as_ref())
        .and_then(|lsb| lsb.description.clone())
        .filter(|description| !description.is_empty())
        .or_else(|| raw.annotation("LinuxLSBDescription").map(str::to_owned))
        .or_else(|| raw.annotation("lsb-release").map(str::to_owned));
    draft.set(
        "os_pretty_version",
        pretty_os(&name, &version, lsb.as_deref()),
    );
    draft.set("os_name", name);
    draft.set("os_version", version);
    Ok(())
}

/// The usual name of the system: `Windows 11`, `macOS 14`, `Debian GNU/Linux 12`.
fn pretty_os(name: &str, version: &str, lsb: Option<&str>) -> String {
    let mut numbers = version
        .split(['.', ' '])
        .map(|part| part.parse::<u32>().ok());
    let mut next = || numbers.next().flatten();
    let (major, minor, build) = (next(), next(), next());
    match name {
        "Windows NT" => match (major, minor, build) {
            (Some(10), Some(0), Some(21_996..)) => "Windows 11".into(),
            (Some(10), Some(0), _) => "Windows 10".into(),
            (Some(6), Some(3), _) => "Windows 8.1".into(),
            (Some(6), Some(2), _) => "Windows 8".into(),
            (Some(6), Some(1), _) => "Windows 7".into(),
            (Some(6), Some(0), _) => "Windows Vista".into(),
            (Some(5), Some(1), _) => "Windows XP".into(),
            _ => "Windows Unknown".into(),
        },
        "Mac OS X" => match (major, minor) {
            (Some(major @ 11..), _) => format!("macOS {major}"),
            (Some(10), Some(minor)) => format!("OS X 10.{minor}"),
            _ => "macOS Unknown".into(),
        },
        "Linux" => lsb.unwrap_or("Linux").to_owned(),
        other => other.to_owned(),
    }
}

pub(crate) fn mac_boot_args(draft: &mut Draft) -> Result<(), String> {
    let found = draft.walk.as_ref().and_then(|w| w.mac_boot_args.clone());
    if let Some(arguments) = found.filter(|text| !text.is_empty()) {
        draft.set("mac_boot_args", arguments);
        draft.set("has_mac_boot_args", true);
    }
    Ok(())
}
