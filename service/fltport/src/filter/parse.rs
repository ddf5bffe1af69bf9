// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a filter's words to what they mean, before anything is known of the message's fields.

use super::words::{Placed, Word, words};
use std::fmt::{self, Write as _};
use std::ops::Range;

/// Why a filter's text is not one, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterProblem {
    text: String,
    at: Range<usize>,
    cause: String,
}

impl FilterProblem {
    pub(super) fn new(text: &str, at: Range<usize>, cause: String) -> Self {
        FilterProblem {
            text: text.to_owned(),
            at,
            cause,
        }
    }

    /// A problem with the filter as a whole.
    pub(crate) fn whole(text: &str, cause: String) -> Self {
        FilterProblem::new(text, 0..text.len(), cause)
    }

    /// The filter's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of the text that it is about.
    pub fn place(&self) -> Range<usize> {
        self.at.clone()
    }
}

impl fmt::Display for FilterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.text.get(self.at.clone()).unwrap_or_default();
        let cause = &self.cause;
        match place.is_empty() {
            true => write!(
                f,
                "the filter {} ends too early: {cause}",
                Quoted(&self.text)
            ),
            false => write!(f, "the filter is wrong at {}: {cause}", Quoted(place)),
        }
    }
}

impl std::error::Error for FilterProblem {}

/// A part of a filter as it was written: its backslashes and quotes count, so they are not escaped.
/// Of a long one the beginning is enough to find it by.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        f.write_char('"')?;
        for character in self.0.chars().take(MOST) {
            f.write_char(if character.is_control() {
                '·'
            } else {
                character
            })?;
        }
        let rest = self.0.chars().nth(MOST);
        f.write_str(if rest.is_some() { "…\"" } else { "\"" })
    }
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    Has,
    Starts,
    Ends,
    Contains,
    Like,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Name(String),
    Number(String),
    Text { text: String, case: bool },
    Bytes(Vec<u8>),
}

/// A literal and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) literal: Literal,
    pub(super) at: Range<usize>,
}

/// What is said of a field.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// Nothing: it is a field that is true or false.
    Holds,
    Absent,
    Present,
    Compare(Comparison, Operand),
    /// One of these, or between two of these.
    In(Vec<(Operand, Option<Operand>)>),
}

/// A filter's meaning.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Predicate {
        field: String,
        at: Range<usize>,
        test: Test,
    },
}

/// Parentheses and `not` may be nested so deeply.
const MAX_DEPTH: usize = 64;

/// Reads a filter.
pub(super) fn parse(text: &str) -> Result<Expression, FilterProblem> {
    let mut parser = Parser {
        text,
        words: words(text)?,
        next: 0,
        depth: 0,
    };
    let expression = parser.or()?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.problem("here \"and\" or \"or\" was expected, or the end")),
    }
}

struct Parser<'t> {
    text: &'t str,
    words: Vec<Placed>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.next).map(|placed| &placed.word)
    }

    fn take(&mut self) -> Option<Placed> {
        let placed = self.words.get(self.next).cloned();
        self.next += usize::from(placed.is_some());
        placed
    }

    /// A problem with the next word, or with the end.
    fn problem(&self, cause: &str) -> FilterProblem {
        let end = self.text.len()..self.text.len();
        let at = self.words.get(self.next).map_or(end, |p| p.at.clone());
        FilterProblem::new(self.text, at, cause.to_owned())
    }

    /// Takes the next word if it is this sign.
    fn sign(&mut self, sign: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Word::Sign(found)) if *found == sign);
        self.next += usize::from(is_it);
        is_it
    }

    /// Takes the next word if it is this keyword.
    fn keyword(&mut self, keyword: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Word::Name(found)) if found == keyword);
        self.next += usize::from(is_it);
        is_it
    }

    fn or(&mut self) -> Result<Expression, FilterProblem> {
        let mut left = self.and()?;
        while self.keyword("or") || self.sign("||") {
            left = Expression::Or(left.into(), self.and()?.into());
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, FilterProblem> {
        let mut left = self.not()?;
        while self.keyword("and") || self.sign("&&") {
            left = Expression::And(left.into(), self.not()?.into());
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, FilterProblem> {
        if self.depth == MAX_DEPTH {
            return Err(self.problem("this is nested too deeply"));
        }
        self.depth += 1;
        let expression = if self.keyword("not") || self.sign("!") {
            Expression::Not(self.not()?.into())
        } else if self.sign("(") {
            let inner = self.or()?;
            if !self.sign(")") {
                return Err(self.problem("here \")\" was expected"));
            }
            inner
        } else {
            self.predicate()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn predicate(&mut self) -> Result<Expression, FilterProblem> {
        let Some(Word::Name(_)) = self.peek() else {
            return Err(self.problem("here the name of a field was expected"));
        };
        let Some(Placed {
            word: Word::Name(field),
            at,
        }) = self.take()
        else {
            return Err(self.problem("here the name of a field was expected"));
        };
        let test = self.test()?;
        Ok(Expression::Predicate { field, at, test })
    }

    fn test(&mut self) -> Result<Test, FilterProblem> {
        if self.keyword("is") {
            return match () {
                () if self.keyword("absent") => Ok(Test::Absent),
                () if self.keyword("present") => Ok(Test::Present),
                () => Err(self.problem("here \"absent\" or \"present\" was expected")),
            };
        }
        if self.keyword("in") {
            return self.list();
        }
        match self.comparison() {
            Some(comparison) => Ok(Test::Compare(comparison, self.operand()?)),
            None => Ok(Test::Holds),
        }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        const ALL: &[(&str, Comparison)] = &[
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            ("<=", Comparison::AtMost),
            (">", Comparison::More),
            (">=", Comparison::AtLeast),
            ("~", Comparison::Like),
            ("has", Comparison::Has),
            ("starts", Comparison::Starts),
            ("ends", Comparison::Ends),
            ("contains", Comparison::Contains),
        ];
        let mut all = ALL.iter();
        let found = all.find(|(word, _)| self.sign(word) || self.keyword(word));
        found.map(|(_, comparison)| *comparison)
    }

    fn list(&mut self) -> Result<Test, FilterProblem> {
        if !self.sign("(") {
            return Err(self.problem("here \"(\" was expected, as in: in (1, 5..9)"));
        }
        let mut items = Vec::new();
        loop {
            let low = self.operand()?;
            let high = match self.sign("..") {
                true => Some(self.operand()?),
                false => None,
            };
            items.push((low, high));
            if self.sign(")") {
                return Ok(Test::In(items));
            }
            if !self.sign(",") {
                return Err(self.problem("here \",\" or \")\" was expected"));
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, FilterProblem> {
        let case = self.keyword("case");
        let literal = match self.peek() {
            Some(Word::Text(text)) => Literal::Text {
                text: text.clone(),
                case,
            },
            _ if case => return Err(self.problem("behind \"case\" a text was expected")),
            Some(Word::Name(name)) => Literal::Name(name.clone()),
            Some(Word::Number(number)) => Literal::Number(number.clone()),
            Some(Word::Bytes(bytes)) => Literal::Bytes(bytes.clone()),
            _ => return Err(self.problem("here a value was expected")),
        };
        let at = self.take().map_or(0..0, |placed| placed.at);
        Ok(Operand { literal, at })
    }
}
