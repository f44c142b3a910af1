//! Jinja2's expression grammar: its precedences, its tuples without parentheses, its chained
//! comparisons. The functions are those of `jinja2/parser.py`, under the same names.

mod postfix;

use super::ast::{Expr, ExprKind, MAX_DEPTH};
use super::lexer::{Token, TokenKind};
use super::statements::RESERVED_PREFIX;
use super::syntax_error::SyntaxError;

pub(super) type Parsed<T> = Result<T, SyntaxError>;

pub(super) struct Parser {
    tokens: Vec<Token>,
    at: usize,
    /// How many of this parser's functions are inside each other.
    depth: usize,
    /// How many loops surround the statement, in the same function of the program that Jinja2 makes.
    pub(super) loops: usize,
}

impl Parser {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self {
            tokens,
            at: 0,
            depth: 0,
            loops: 0,
        }
    }

    pub(super) fn kind(&self) -> &TokenKind {
        self.tokens
            .get(self.at)
            .map_or(&TokenKind::End, |token| &token.kind)
    }

    fn look(&self) -> &TokenKind {
        self.tokens
            .get(self.at + 1)
            .map_or(&TokenKind::End, |token| &token.kind)
    }

    pub(super) fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(1, |token| token.line)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(SyntaxError::new(message, self.line()))
    }

    /// Runs `parse` one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail(format!("nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub(super) fn is_op(&self, operator: &str) -> bool {
        matches!(self.kind(), TokenKind::Operator(found) if *found == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.kind(), TokenKind::Name(found) if found == name)
    }

    pub(super) fn skip_op(&mut self, operator: &str) -> bool {
        let found = self.is_op(operator);
        self.at += usize::from(found);
        found
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_op(&mut self, operator: &str) -> Parsed<()> {
        if self.skip_op(operator) {
            return Ok(());
        }
        self.fail(format!("expected '{operator}', got {}", self.describe()))
    }

    pub(super) fn expect_name(&mut self) -> Parsed<String> {
        match self.kind().clone() {
            TokenKind::Name(name) => {
                self.advance();
                Ok(name)
            }
            _ => self.fail(format!("expected a name, got {}", self.describe())),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self.kind() {
            TokenKind::Data(_) => "template text".to_owned(),
            TokenKind::VariableBegin => "begin of print statement".to_owned(),
            TokenKind::VariableEnd => "end of print statement".to_owned(),
            TokenKind::BlockBegin => "begin of statement block".to_owned(),
            TokenKind::BlockEnd => "end of statement block".to_owned(),
            TokenKind::Name(name) => format!("'{name}'"),
            TokenKind::Text(text) => format!("the string {text:?}"),
            TokenKind::Integer(number) => format!("{number}"),
            TokenKind::Float(number) => format!("{number}"),
            TokenKind::Operator(operator) => format!("'{operator}'"),
            TokenKind::End => "end of template".to_owned(),
        }
    }

    pub(super) fn expression(&mut self, with_conditional: bool) -> Parsed<Expr> {
        self.nested(|parser| {
            if with_conditional {
                parser.conditional()
            } else {
                parser.or()
            }
        })
    }

    fn conditional(&mut self) -> Parsed<Expr> {
        let mut line = self.line();
        let mut expr = self.or()?;
        while self.skip_name("if") {
            let test = self.or()?;
            let no = if self.skip_name("else") {
                Some(self.nested(Self::conditional)?)
            } else {
                None
            };
            let yes = expr;
            expr = Expr::new(ExprKind::Conditional { test, yes, no }, line)?;
            line = self.line();
        }
        Ok(expr)
    }

    fn or(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let mut left = self.and()?;
        while self.skip_name("or") {
            left = Expr::new(ExprKind::Or(left, self.and()?), line)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let mut left = self.not()?;
        while self.skip_name("and") {
            left = Expr::new(ExprKind::And(left, self.not()?), line)?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed<Expr> {
        let line = self.line();
        if self.skip_name("not") {
            let operand = self.nested(Self::not)?;
            return Expr::new(ExprKind::Not(operand), line);
        }
        self.compare()
    }

    fn compare(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let first = self.math1()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.kind() {
                TokenKind::Operator(op @ ("==" | "!=" | "<" | "<=" | ">" | ">=")) => *op,
                TokenKind::Name(name) if name == "in" => "in",
                TokenKind::Name(name)
                    if name == "not"
                        && matches!(self.look(), TokenKind::Name(next) if next == "in") =>
                {
                    self.advance();
                    "not in"
                }
                _ => break,
            };
            self.advance();
            rest.push((operator, self.math1()?));
        }
        if rest.is_empty() {
            return Ok(first);
        }
        Expr::new(ExprKind::Compare(first, rest), line)
    }

    /// Operators of one precedence, from the left.
    fn binary(
        &mut self,
        operators: &[&'static str],
        operand: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        let line = self.line();
        let mut left = operand(self)?;
        while let Some(operator) = operators.iter().find(|op| self.is_op(op)) {
            self.advance();
            left = Expr::new(ExprKind::Binary(operator, left, operand(self)?), line)?;
        }
        Ok(left)
    }

    fn math1(&mut self) -> Parsed<Expr> {
        self.binary(&["+", "-"], Self::concat)
    }

    fn concat(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let mut parts = vec![self.math2()?];
        while self.skip_op("~") {
            parts.push(self.math2()?);
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => {
                parts.extend(last);
                Expr::new(ExprKind::Concat(parts), line)
            }
        }
    }

    fn math2(&mut self) -> Parsed<Expr> {
        self.binary(&["*", "/", "//", "%"], Self::pow)
    }

    fn pow(&mut self) -> Parsed<Expr> {
        self.binary(&["**"], |parser| parser.unary(true))
    }

    fn unary(&mut self, with_filter: bool) -> Parsed<Expr> {
        let line = self.line();
        let sign = ["-", "+"].into_iter().find(|sign| self.is_op(sign));
        let mut node = match sign {
            Some(sign) => {
                self.advance();
                let operand = self.nested(|parser| parser.unary(false))?;
                Expr::new(ExprKind::Unary(sign, operand), line)?
            }
            None => self.primary()?,
        };
        node = self.postfix(node)?;
        if with_filter {
            node = self.filter_expr(node)?;
        }
        Ok(node)
    }

    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        let line = self.line();
        let kind = match self.kind().clone() {
            TokenKind::Name(name) if name.starts_with(RESERVED_PREFIX) => {
                return self.fail(format!("the name {name} is not supported"));
            }
            TokenKind::Name(name) => {
                self.advance();
                match name.as_str() {
                    "true" | "True" => ExprKind::Bool(true),
                    "false" | "False" => ExprKind::Bool(false),
                    "none" | "None" => ExprKind::None,
                    _ => ExprKind::Name(name),
                }
            }
            TokenKind::Text(mut text) => {
                self.advance();
                while let TokenKind::Text(more) = self.kind() {
                    text.push_str(more);
                    self.advance();
                }
                ExprKind::Text(text)
            }
            TokenKind::Integer(number) => {
                self.advance();
                ExprKind::Integer(number)
            }
            TokenKind::Float(number) => {
                self.advance();
                ExprKind::Float(number)
            }
            TokenKind::Operator("(") => {
                self.advance();
                let inner = self.nested(|parser| parser.tuple(true, true))?;
                self.expect_op(")")?;
                return Ok(inner);
            }
            TokenKind::Operator("[") => self.list()?,
            TokenKind::Operator("{") => self.dict()?,
            _ => return self.fail(format!("unexpected {}", self.describe())),
        };
        Expr::new(kind, line)
    }

    /// One expression, or several with commas between them, which are a tuple.
    pub(super) fn tuple(&mut self, with_conditional: bool, parenthesized: bool) -> Parsed<Expr> {
        let line = self.line();
        let mut items: Vec<Expr> = Vec::new();
        let mut is_tuple = false;
        loop {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            let at_end = matches!(self.kind(), TokenKind::VariableEnd | TokenKind::BlockEnd)
                || self.is_op(")");
            if at_end {
                break;
            }
            items.push(self.expression(with_conditional)?);
            if !self.is_op(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple {
            if let Some(only) = items.pop() {
                return Ok(only);
            }
            if !parenthesized {
                return self.fail(format!("expected an expression, got {}", self.describe()));
            }
        }
        Expr::new(ExprKind::Tuple(items), line)
    }

    fn list(&mut self) -> Parsed<ExprKind> {
        self.expect_op("[")?;
        let mut items = Vec::new();
        while !self.is_op("]") {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_op("]") {
                break;
            }
            items.push(self.expression(true)?);
        }
        self.expect_op("]")?;
        Ok(ExprKind::List(items))
    }

    fn dict(&mut self) -> Parsed<ExprKind> {
        self.expect_op("{")?;
        let mut pairs = Vec::new();
        while !self.is_op("}") {
            if !pairs.is_empty() {
                self.expect_op(",")?;
            }
            if self.is_op("}") {
                break;
            }
            let key = self.expression(true)?;
            self.expect_op(":")?;
            pairs.push((key, self.expression(true)?));
        }
        self.expect_op("}")?;
        Ok(ExprKind::Dict(pairs))
    }
}
