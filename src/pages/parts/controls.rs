//! Parameters that several pages accept, and the controls for them.

use maud::{Markup, html};

use super::ranking::SYSTEMS;
use super::scope::Scope;
use crate::fields::name;
use crate::pages::shown;
use crate::web::{Params, WebError};

/// The choice for systems and process types that are not listed.
pub(crate) const OTHER: &str = "other";
/// Maximum number of versions in a form.
pub(crate) const VERSIONS_MAX: usize = 12;

pub(crate) fn one_of(
    params: &Params,
    param: &str,
    accepted: &[u32],
) -> Result<Option<u32>, WebError> {
    let Some(text) = params.get(param) else {
        return Ok(None);
    };
    let found = accepted.iter().find(|n| n.to_string() == text);
    let accepted: Vec<String> = accepted.iter().map(u32::to_string).collect();
    found
        .map(|n| Some(*n))
        .ok_or_else(|| refused(param, text, &accepted))
}

/// The words that a parameter accepts, each with its label in forms.
pub(crate) type Words = [(&'static str, &'static str)];

/// The word in a parameter. If the parameter is missing, the first word.
pub(crate) fn word(params: &Params, param: &str, words: &Words) -> Result<&'static str, WebError> {
    let Some(text) = params.get(param) else {
        return Ok(words.first().map_or("", |(word, _)| word));
    };
    let known = words.iter().map(|(word, _)| *word);
    known.clone().find(|word| *word == text).ok_or_else(|| {
        let known: Vec<&str> = known.collect();
        refused(param, text, &known)
    })
}

/// A control that selects a word.
pub(crate) fn words(title: &str, param: &str, words: &Words, chosen: &str) -> Markup {
    html! {
        label { (title) select name=(param) {
            @for (word, text) in words { (option(word, text, *word == chosen)) }
        } }
    }
}

/// Reads a system. Accepts its usual name and its name in the field `platform`.
pub(crate) fn system(params: &Params) -> Result<Option<&'static str>, WebError> {
    let Some(text) = params.get(name::PLATFORM) else {
        return Ok(None);
    };
    let known = SYSTEMS
        .iter()
        .find(|(label, platform)| text == *label || text == *platform);
    match known {
        Some((label, _)) => Ok(Some(label)),
        None if text == OTHER => Ok(Some(OTHER)),
        None => {
            let both = SYSTEMS
                .iter()
                .flat_map(|(label, platform)| [*label, platform]);
            let mut accepted: Vec<&str> = both.collect();
            accepted.dedup();
            accepted.push(OTHER);
            Err(refused(name::PLATFORM, text, &accepted))
        }
    }
}

pub(crate) fn refused(
    param: &str,
    text: &str,
    accepted: &[impl std::borrow::Borrow<str>],
) -> WebError {
    let accepted = accepted.join(", ");
    WebError::bad(param, format!("{param} is {text:?}; accepted: {accepted}"))
}

pub(crate) fn option(value: &str, text: &str, is_selected: bool) -> Markup {
    html! { option value=(value) selected[is_selected] { (text) } }
}

/// The crashes on a system with this usual name.
pub(crate) fn on_system(scope: &Scope, system: &str) -> Scope {
    match SYSTEMS.iter().find(|(label, _)| *label == system) {
        Some((_, platform)) => scope.with(name::PLATFORM, platform),
        None => SYSTEMS.iter().fold(scope.clone(), |scope, (_, platform)| {
            scope.except(name::PLATFORM, platform)
        }),
    }
}

/// A control that selects a system.
pub(crate) fn systems(chosen: Option<&str>) -> Markup {
    html! {
        label { "System" select name=(name::PLATFORM) {
            (option("", "any", chosen.is_none()))
            @for system in SYSTEMS.iter().map(|(label, _)| *label).chain([OTHER]) {
                (option(system, system, chosen == Some(system)))
            }
        } }
    }
}

/// Check boxes for versions. Includes the versions in the URL, even unknown ones.
pub(crate) fn versions(offered: &[&str], chosen: &[String]) -> Markup {
    let mut versions = offered.to_vec();
    for version in chosen {
        if !versions.contains(&version.as_str()) {
            versions.push(version);
        }
    }
    html! {
        @if !versions.is_empty() {
            fieldset.checks {
                legend { "Versions (none selected: all)" }
                @for version in versions {
                    label {
                        input type="checkbox" name=(name::VERSION) value=(version) checked[chosen.iter().any(|v| v == version)];
                        " " (shown(version))
                    }
                }
            }
        }
    }
}
