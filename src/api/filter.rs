//! The filter of lists and watches: a small part of AIP-160, terms joined by
//! `AND`. What does not parse is refused with the term, never ignored.

use std::iter::Peekable;

use crate::{device::State, fleet::Entry};

/// Which devices are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Label { key: String, test: Test<String> },
    HasLabel(String),
    State(Test<State>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test<T> {
    Is(T),
    IsNot(T),
}

impl<T: PartialEq> Test<T> {
    fn holds(&self, found: Option<&T>) -> bool {
        match self {
            Self::Is(wanted) => found == Some(wanted),
            Self::IsNot(wanted) => found != Some(wanted),
        }
    }
}

impl Filter {
    /// Parses a filter; the error tells what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let mut terms = Vec::new();
        if tokens.peek().is_none() {
            return Ok(Self::default());
        }
        loop {
            terms.push(term(&mut tokens)?);
            match tokens.next() {
                None => return Ok(Self { terms }),
                Some(Token::Word(word)) if word == "AND" => {}
                Some(other) => return Err(format!("expected AND, not {}", other.show())),
            }
        }
    }

    /// Whether a device is meant.
    pub(super) fn selects(&self, entry: &Entry) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Label { key, test } => test.holds(entry.device.labels.get(key)),
            Term::HasLabel(key) => entry.device.labels.contains_key(key),
            Term::State(test) => test.holds(Some(&entry.line.state())),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Is,
    IsNot,
    Has,
}

impl Token {
    fn show(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Quoted(text) => format!("{text:?}"),
            Self::Is => "=".into(),
            Self::IsNot => "!=".into(),
            Self::Has => ":".into(),
        }
    }
}

fn term(tokens: &mut Peekable<impl Iterator<Item = Token>>) -> Result<Term, String> {
    let field = match tokens.next() {
        Some(Token::Word(word)) => word,
        Some(other) => return Err(format!("expected a field, not {}", other.show())),
        None => return Err("expected a term after AND".into()),
    };
    let operator = tokens.next().ok_or_else(|| format!("expected =, != or : after {field}"))?;
    let value = match tokens.next() {
        Some(Token::Word(text) | Token::Quoted(text)) => text,
        Some(other) => return Err(format!("expected a value, not {}", other.show())),
        None => {
            return Err(format!("expected a value after {field} {}", operator.show()));
        }
    };
    let test = |value: String| match &operator {
        Token::Is => Ok(Test::Is(value)),
        Token::IsNot => Ok(Test::IsNot(value)),
        other @ (Token::Word(_) | Token::Quoted(_) | Token::Has) => {
            Err(format!("expected = or != after {field}, not {}", other.show()))
        }
    };
    if let Some(key) = field.strip_prefix("labels.") {
        if operator == Token::Has {
            return match value.as_str() {
                "*" => Ok(Term::HasLabel(key.to_owned())),
                _ => Err(format!("expected {field}:*")),
            };
        }
        return Ok(Term::Label { key: key.to_owned(), test: test(value)? });
    }
    if field == "state" {
        let state = State::ALL.into_iter().find(|state| state.as_str() == value);
        let state = state.ok_or_else(|| {
            let all = State::ALL.map(State::as_str).join(", ");
            format!("{value:?} is not a state: {all}")
        })?;
        return Ok(Term::State(match test(value)? {
            Test::Is(_) => Test::Is(state),
            Test::IsNot(_) => Test::IsNot(state),
        }));
    }
    Err(format!("{field:?} cannot be filtered by; use labels.KEY or state"))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '"' => quoted(rest)?,
            '=' => (Token::Is, &rest[1..]),
            ':' => (Token::Has, &rest[1..]),
            '!' => (Token::IsNot, rest.strip_prefix("!=").ok_or("expected != for !")?),
            _ => {
                let end = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | ':' | '!');
                let (word, after) = rest.split_at(rest.find(end).unwrap_or(rest.len()));
                (Token::Word(word.to_owned()), after)
            }
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// A string in double quotes; `\"` and `\\` stand for themselves.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Token::Quoted(value), &text[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            other => value.push(other),
        }
    }
    Err("a quote is not closed".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terms_are_understood() {
        let filter =
            Filter::parse(r#"labels.rack = "a \"b\"" AND labels.x.y/z:* AND state != STOPPED"#);
        assert_eq!(
            filter.unwrap().terms,
            [
                Term::Label { key: "rack".into(), test: Test::Is("a \"b\"".into()) },
                Term::HasLabel("x.y/z".into()),
                Term::State(Test::IsNot(State::Stopped)),
            ]
        );
        assert_eq!(Filter::parse("  ").unwrap(), Filter::default());
    }

    #[test]
    fn mistakes_are_told() {
        for (wrong, told) in [
            ("rack = 3", "labels.KEY or state"),
            ("state = UP", "CONNECTED"),
            ("state", "expected ="),
            ("state =", "expected a value"),
            ("labels.a = b labels.c = d", "expected AND"),
            ("labels.a = \"b", "not closed"),
            ("labels.a : b", "labels.a:*"),
            ("state = STOPPED AND", "after AND"),
            ("state : STOPPED", "= or !="),
        ] {
            let error = Filter::parse(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_filter_makes_it_panic(text in "[a-z.=!:\"\\\\* A-Z]{0,40}|.*") {
            Filter::parse(&text).ok();
        }
    }
}
