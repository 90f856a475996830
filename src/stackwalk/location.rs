//! Whose folder a module was loaded from: the program's, the system's, a driver's, or another.
//!
//! The path of a module can contain the name of a user, so the walk gives only this word.

use crate::crash::walk::Location;

/// Folders below these belong to the system, in lower case and with `/`.
const SYSTEM: [&str; 18] = [
    "/lib/",
    "/lib32/",
    "/lib64/",
    "/libx32/",
    "/bin/",
    "/sbin/",
    "/usr/",
    "/nix/store/",
    "/gnu/store/",
    "/system/",
    "/system_ext/",
    "/apex/",
    "/product/",
    "/library/apple/",
    "/cores/",
    "/app/lib/",
    "/run/host/",
    "/snap/core",
];
/// Parts of the paths of drivers.
const DRIVER: [&str; 7] = [
    "/driverstore/filerepository/",
    "/dri/",
    "/system/library/extensions/",
    "/library/extensions/",
    "/vendor/lib/",
    "/vendor/lib64/",
    "/odm/lib",
];
/// Folders in which many programs are, so that a neighbour of the program need not belong to it.
const SHARED: [&str; 9] = [
    "/",
    "/bin/",
    "/sbin/",
    "/usr/bin/",
    "/usr/sbin/",
    "/usr/local/bin/",
    "/usr/libexec/",
    "/system/bin/",
    "/opt/",
];
/// Folders of programs whose libraries may be in a folder beside them.
const PROGRAM_FOLDERS: [&str; 6] = ["bin", "sbin", "lib", "lib64", "libexec", "binaries"];

/// Where a module is, given its path and that of the program.
pub(super) fn of(path: &str, program: &str) -> Location {
    let path = normal(path);
    if !path.contains('/') {
        return if path == normal(program) {
            Location::Program
        } else {
            Location::Other
        };
    }
    if is_in_program(&path, &normal(program)) {
        return Location::Program;
    }
    let path = without_drive(&path);
    if DRIVER.iter().any(|part| path.contains(part)) {
        return Location::Driver;
    }
    let is_system = SYSTEM.iter().any(|folder| path.starts_with(folder))
        || is_below_windows(path)
        // The libraries of a simulator and of a device's support files are in a folder of the developer.
        || path.contains("/system/library/")
        || path.contains("/usr/lib/system/");
    if is_system {
        Location::System
    } else {
        Location::Other
    }
}

/// In lower case, and with the separators of Unix.
fn normal(path: &str) -> String {
    let mut path = path.replace('\\', "/");
    path.make_ascii_lowercase();
    // `\\?\C:\` and `\??\C:\` as Windows writes long paths and those of its kernel.
    for start in ["//?/", "/??/"] {
        if let Some(rest) = path.strip_prefix(start) {
            path = rest.to_owned();
        }
    }
    path
}

/// The path without the letter of its drive.
fn without_drive(path: &str) -> &str {
    match path.as_bytes() {
        [letter, b':', b'/', ..] if letter.is_ascii_alphabetic() => &path[2..],
        _ => path,
    }
}

/// Whether a path is in the folder of Windows, on any drive.
fn is_below_windows(path: &str) -> bool {
    const FOLDERS: [&str; 6] = [
        "system32",
        "syswow64",
        "sysarm32",
        "winsxs",
        "microsoft.net",
        "assembly",
    ];
    path.starts_with("/windows/")
        || path.starts_with("/winnt/")
        || FOLDERS.iter().any(|folder| {
            let below = path.split_once("/windows/").map(|(_, below)| below);
            let below = below.and_then(|below| below.strip_prefix(folder));
            below.is_some_and(|below| below.starts_with('/'))
        })
}

/// Whether a path is in the folder tree of the program.
fn is_in_program(path: &str, program: &str) -> bool {
    if path == program {
        return true;
    }
    // A program of macOS or iOS is a folder.
    if let Some(at) = program.find(".app/") {
        return path.starts_with(&program[..at + ".app/".len()]);
    }
    // Android: `/data/app/~~x/package-y/lib/arm64/libapp.so`, and the same with `base.apk!/lib/...`.
    if without_drive(path).starts_with("/data/app/") {
        return true;
    }
    let Some(end) = program.rfind('/') else {
        return false;
    };
    let mut folder = &program[..=end];
    if SHARED.contains(&without_drive(folder)) || is_below_windows(without_drive(folder)) {
        return false;
    }
    let parent = |folder: &str| {
        let above = folder.trim_end_matches('/');
        above
            .rfind('/')
            .map(|at| (at + 1, above[at + 1..].to_owned()))
    };
    if let Some((at, name)) = parent(folder) {
        let above = &folder[..at];
        if PROGRAM_FOLDERS.contains(&name.as_str()) && !SHARED.contains(&without_drive(above)) {
            folder = above;
        }
    }
    path.starts_with(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_belongs_to_whose_folder_it_is_in() {
        use Location::{Driver, Other, Program, System};
        for (path, program, expected) in [
            ("/usr/bin/app", "/usr/bin/app", Program),
            (
                "/usr/lib/x86_64-linux-gnu/libc.so.6",
                "/usr/bin/app",
                System,
            ),
            ("/usr/bin/other.so", "/usr/bin/app", System),
            (
                "/usr/lib/firefox/libxul.so",
                "/usr/lib/firefox/firefox",
                Program,
            ),
            ("/opt/app/lib/libcore.so", "/opt/app/bin/app", Program),
            ("/opt/app/libcore.so", "/opt/app/app", Program),
            ("/opt/other/libhook.so", "/opt/app/app", Other),
            ("/home/ana/libhook.so", "/opt/app/app", Other),
            (
                "/usr/lib/x86_64-linux-gnu/dri/radeonsi_dri.so",
                "/usr/bin/app",
                Driver,
            ),
            (
                r"C:\Windows\System32\ntdll.dll",
                r"C:\Program Files\App\app.exe",
                System,
            ),
            (
                r"\\?\C:\WINDOWS\SysWOW64\ntdll.dll",
                r"C:\Program Files\App\app.exe",
                System,
            ),
            (
                r"C:\Windows\System32\DriverStore\FileRepository\nv_dispi.inf_amd64_1\nvoglv64.dll",
                r"C:\Program Files\App\app.exe",
                Driver,
            ),
            (
                r"C:\Program Files\App\plugins\x.dll",
                r"C:\Program Files\App\app.exe",
                Program,
            ),
            (
                r"C:\Program Files\AV\hook64.dll",
                r"C:\Program Files\App\app.exe",
                Other,
            ),
            (
                r"c:\program files\app\CORE.DLL",
                r"C:\Program Files\App\app.exe",
                Program,
            ),
            (
                r"C:\Windows\System32\x.dll",
                r"C:\Windows\System32\svchost.exe",
                System,
            ),
            (
                "/Applications/A.app/Contents/Frameworks/F",
                "/Applications/A.app/Contents/MacOS/A",
                Program,
            ),
            (
                "/System/Library/Frameworks/AppKit",
                "/Applications/A.app/Contents/MacOS/A",
                System,
            ),
            (
                "/System/Library/Extensions/AMDRadeon.bundle/x",
                "/Applications/A.app/Contents/MacOS/A",
                Driver,
            ),
            (
                "/data/app/~~x/org.a-y/lib/arm64/liba.so",
                "/system/bin/app_process64",
                Program,
            ),
            (
                "/apex/com.android.runtime/lib64/bionic/libc.so",
                "/system/bin/app_process64",
                System,
            ),
            (
                "/vendor/lib64/egl/libGLESv2_adreno.so",
                "/system/bin/app_process64",
                Driver,
            ),
            ("linux-gate.so", "/usr/bin/app", Other),
            ("app.exe", "app.exe", Program),
            ("", "", Program),
        ] {
            assert_eq!(of(path, program), expected, "{path} of {program}");
        }
    }
}
