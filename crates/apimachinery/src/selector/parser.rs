//! The grammar of label selectors.
//!
//! In: the text of a query parameter. Out: its requirements, or what was expected where, in Kubernetes' words.

use std::collections::BTreeSet;

use super::{Operator, Requirement, SelectorError};
use crate::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

/// Reads requirements off a list of tokens.
pub(super) struct Parser {
    tokens: Vec<(Token, String)>,
    position: usize,
}

impl Parser {
    pub(super) fn new(text: &str) -> Self {
        Parser { tokens: tokens(text), position: 0 }
    }

    /// `values` tells that `in` and `notin` are plain identifiers here.
    fn peek(&self, values: bool) -> (Token, &str) {
        let (token, text) = self.tokens.get(self.position).map_or((Token::End, ""), |(t, s)| (*t, s.as_str()));
        match token {
            Token::In | Token::NotIn if values => (Token::Identifier, text),
            token => (token, text),
        }
    }

    fn next(&mut self, values: bool) -> (Token, String) {
        let (token, text) = self.peek(values);
        let text = text.to_owned();
        self.position += 1;
        (token, text)
    }

    pub(super) fn parse(mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek(true) {
                (Token::End, _) => return Ok(requirements),
                (Token::Identifier | Token::Not, _) => {
                    let requirement =
                        self.requirement().map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                    requirements.push(requirement);
                }
                (_, text) => {
                    return expected(text, ", expected: !, identifier, or 'end of string'");
                }
            }
            match self.next(true) {
                (Token::End, _) => return Ok(requirements),
                (Token::Comma, _) => match self.peek(true) {
                    (Token::Identifier | Token::Not, _) => {}
                    (_, text) => return expected(text, ", expected: identifier after ','"),
                },
                (_, text) => return expected(&text, ", expected: ',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut negated = false;
        let (mut token, mut key) = self.next(true);
        if token == Token::Not {
            negated = true;
            (token, key) = self.next(true);
        }
        if token != Token::Identifier {
            return expected(&key, ", expected: identifier");
        }
        let complaints = names::label_key(&key);
        if !complaints.is_empty() {
            return Err(SelectorError(format!("<nil>: Invalid value: {key:?}: {}", complaints.join("; "))));
        }
        if matches!(self.peek(true).0, Token::End | Token::Comma) && !negated {
            return Requirement::new(&key, Operator::Exists, Vec::new());
        }
        if negated {
            return Requirement::new(&key, Operator::DoesNotExist, Vec::new());
        }
        let operator = match self.next(false) {
            (Token::In, _) => Operator::In,
            (Token::NotIn, _) => Operator::NotIn,
            (Token::Equals, _) => Operator::Equals,
            (Token::DoubleEquals, _) => Operator::DoubleEquals,
            (Token::NotEquals, _) => Operator::NotEquals,
            (Token::Greater, _) => Operator::GreaterThan,
            (Token::Less, _) => Operator::LessThan,
            (_, text) => return expected(&text, ", expected: in, notin, =, ==, !=, gt, lt"),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_set()?,
            _ => self.exact_value()?,
        };
        Requirement::new(&key, operator, values.into_iter().collect())
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.peek(true).0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.next(true) {
            (Token::Identifier, text) => Ok(BTreeSet::from([text])),
            (_, text) => expected(&text, ", expected: identifier"),
        }
    }

    fn value_set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.next(true) {
            (Token::Open, _) => {}
            (_, text) => return expected(&text, " expected: '('"),
        }
        match self.peek(true) {
            (Token::Close, _) => {
                self.next(true);
                Ok(BTreeSet::from([String::new()]))
            }
            (Token::Identifier | Token::Comma, first) => {
                let first = first.to_owned();
                let values = self.identifiers()?;
                match self.next(true) {
                    (Token::Close, _) => Ok(values),
                    _ => expected(&first, ", expected: ')'"),
                }
            }
            (_, text) => expected(text, ", expected: ',', ')' or identifier"),
        }
    }

    fn identifiers(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.next(true) {
                (Token::Identifier, text) => {
                    values.insert(text);
                    match self.peek(true) {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, text) => return expected(text, ", expected: ',' or ')'"),
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek(true).0 {
                        Token::Close => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => return expected(&text, ", expected: ',', or identifier"),
            }
        }
    }
}

fn expected<T>(found: &str, rest: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{found}'{rest}")))
}

fn tokens(text: &str) -> Vec<(Token, String)> {
    let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(space);
        let Some(first) = rest.chars().next() else {
            break;
        };
        let length = if special(first) {
            if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 }
        } else {
            rest.find(|c| special(c) || space(c)).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at(length);
        let token = match word {
            ")" => Token::Close,
            "," => Token::Comma,
            "!" => Token::Not,
            "==" => Token::DoubleEquals,
            "=" => Token::Equals,
            ">" => Token::Greater,
            "in" => Token::In,
            "<" => Token::Less,
            "!=" => Token::NotEquals,
            "notin" => Token::NotIn,
            "(" => Token::Open,
            word if word.contains('\0') => Token::Error,
            _ => Token::Identifier,
        };
        out.push((token, word.to_owned()));
        rest = tail;
    }
    out.push((Token::End, String::new()));
    out
}
