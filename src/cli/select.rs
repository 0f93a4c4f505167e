//! Which devices a command is about: names, and `-l` and `--filter` as one
//! filter of the API.
//!
//! A thing of its own because `get` and `watch` select the same way, and every
//! command takes a name with or without `devices/`.

use clap::Args;

use crate::name::{DeviceId, Error};

/// Selects devices by label and state.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Selection {
    /// Only devices with these labels: KEY=VALUE, KEY!=VALUE or KEY, joined by
    /// commas
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = selector)]
    selector: Option<String>,
    /// Only devices that match this filter of the API, such as
    /// 'state = CONNECTED AND labels.rack = "3"'
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
}

impl Selection {
    /// As one filter; empty selects all.
    pub(super) fn filter(&self) -> String {
        let terms = [self.selector.as_deref(), self.filter.as_deref()];
        let terms: Vec<&str> =
            terms.into_iter().flatten().filter(|term| !term.is_empty()).collect();
        terms.join(" AND ")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.filter().is_empty()
    }
}

/// Parses `node7` or `devices/node7`.
pub(super) fn device(name: &str) -> Result<DeviceId, Error> {
    if name.contains('/') { DeviceId::from_resource_name(name) } else { name.parse() }
}

/// Parses the names after a verb. The word `device` or `devices` may come
/// first, as in other tools; a device of that name is asked for as
/// `devices/devices`.
pub(super) fn after_verb(words: &[String]) -> Result<Vec<DeviceId>, (String, Error)> {
    let names = match words.split_first() {
        Some((first, names)) if matches!(first.as_str(), "device" | "devices") => names,
        Some(_) | None => words,
    };
    let parse = |name: &String| device(name).map_err(|error| (name.clone(), error));
    names.iter().map(parse).collect()
}

/// Turns a label selector into a filter.
fn selector(text: &str) -> Result<String, String> {
    let terms: Result<Vec<String>, String> = text.split(',').map(selector_term).collect();
    Ok(terms?.join(" AND "))
}

fn selector_term(term: &str) -> Result<String, String> {
    let (key, rest) = match term.split_once('=') {
        // `==` is `=`, as in other tools.
        Some((key, value)) => match key.strip_suffix('!') {
            Some(key) => (key, format!(" != {}", quoted(value))),
            None => {
                let value = value.strip_prefix('=').unwrap_or(value);
                (key, format!(" = {}", quoted(value)))
            }
        },
        None => (term, ":*".to_owned()),
    };
    let key = key.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(allowed) {
        return Err(format!("\"{term}\" is not KEY=VALUE, KEY!=VALUE or KEY"));
    }
    Ok(format!("labels.{key}{rest}"))
}

fn quoted(value: &str) -> String {
    let value = value.trim().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_become_filters() {
        let check = |text: &str, expected: &str| assert_eq!(selector(text).unwrap(), expected);
        check("rack=3", r#"labels.rack = "3""#);
        check("rack==3", r#"labels.rack = "3""#);
        check("a/b!=x y, c", r#"labels.a/b != "x y" AND labels.c:*"#);
        check(r#"a="\"#, r#"labels.a = "\"\\""#);
        for bad in ["", "=x", "a b=1", "a,,b", "a OR b"] {
            assert!(selector(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn selector_and_filter_are_joined() {
        let selection = Selection {
            selector: Some(selector("a=1").unwrap()),
            filter: Some("state = CONNECTED".to_owned()),
        };
        assert_eq!(selection.filter(), r#"labels.a = "1" AND state = CONNECTED"#);
        assert!(Selection::default().is_empty());
    }

    #[test]
    fn names_come_with_and_without_the_collection() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            let names = after_verb(&words).map_err(|(word, _)| word)?;
            Ok(names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let names = |names: &[&str]| Ok(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(parse(&["devices"]), names(&[]));
        assert_eq!(parse(&["device", "a", "devices/b"]), names(&["a", "b"]));
        assert_eq!(parse(&["devices/devices"]), names(&["devices"]));
        assert_eq!(parse(&["a", "B"]), Err("B".to_owned()));
    }
}
