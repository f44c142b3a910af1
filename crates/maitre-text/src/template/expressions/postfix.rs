//! What follows an operand: attributes, items, slices, calls, filters and tests.

use super::{Parsed, Parser};
use crate::template::ast::{Arguments, Expr, ExprKind};
use crate::template::lexer::TokenKind;

impl Parser {
    pub(super) fn postfix(&mut self, mut node: Expr) -> Parsed<Expr> {
        loop {
            node = match self.kind() {
                TokenKind::Operator("." | "[") => self.subscript(node)?,
                TokenKind::Operator("(") => self.call(node)?,
                _ => return Ok(node),
            };
        }
    }

    pub(super) fn filter_expr(&mut self, mut node: Expr) -> Parsed<Expr> {
        loop {
            node = match self.kind() {
                TokenKind::Operator("|") => {
                    self.advance();
                    self.filter(Some(node))?
                }
                TokenKind::Name(name) if name == "is" => self.test(node)?,
                TokenKind::Operator("(") => self.call(node)?,
                _ => return Ok(node),
            };
        }
    }

    fn call(&mut self, node: Expr) -> Parsed<Expr> {
        let line = self.line();
        let arguments = self.call_arguments()?;
        Expr::new(ExprKind::Call(node, arguments), line)
    }

    fn subscript(&mut self, node: Expr) -> Parsed<Expr> {
        let line = self.line();
        if self.skip_op(".") {
            let kind = match self.kind().clone() {
                TokenKind::Name(name) => ExprKind::Attribute(node, name),
                TokenKind::Integer(index) => {
                    ExprKind::Item(node, Expr::new(ExprKind::Integer(index), line)?)
                }
                _ => return self.fail("expected name or number"),
            };
            self.advance();
            return Expr::new(kind, line);
        }
        self.expect_op("[")?;
        let mut parts = Vec::new();
        let mut slice = None;
        while !self.is_op("]") {
            if !parts.is_empty() || slice.is_some() {
                self.expect_op(",")?;
                if slice.is_some() {
                    return self.fail("a slice in a tuple is not supported");
                }
            }
            match self.subscribed()? {
                Subscript::Item(item) => parts.push(item),
                Subscript::Slice(_) if !parts.is_empty() => {
                    return self.fail("a slice in a tuple is not supported");
                }
                Subscript::Slice(bounds) => slice = Some(bounds),
            }
        }
        self.expect_op("]")?;
        if let Some(bounds) = slice {
            return Expr::new(ExprKind::Slice(node, bounds), line);
        }
        let key = match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                Expr::new(ExprKind::Tuple(parts), line)?
            }
        };
        Expr::new(ExprKind::Item(node, key), line)
    }

    fn subscribed(&mut self) -> Parsed<Subscript> {
        let start = if self.is_op(":") {
            None
        } else {
            let item = self.expression(true)?;
            if !self.is_op(":") {
                return Ok(Subscript::Item(item));
            }
            Some(item)
        };
        self.advance();
        let bound = |parser: &mut Self| {
            if parser.is_op(":") || parser.is_op("]") || parser.is_op(",") {
                Ok(None)
            } else {
                parser.expression(true).map(Some)
            }
        };
        let stop = bound(self)?;
        let step = if self.skip_op(":") {
            bound(self)?
        } else {
            None
        };
        Ok(Subscript::Slice([start, stop, step]))
    }

    fn call_arguments(&mut self) -> Parsed<Arguments> {
        self.expect_op("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.is_op(")") {
            if !first {
                self.expect_op(",")?;
                if self.is_op(")") {
                    break;
                }
            }
            first = false;
            self.argument(&mut arguments)?;
        }
        self.expect_op(")")?;
        Ok(arguments)
    }

    fn argument(&mut self, arguments: &mut Arguments) -> Parsed<()> {
        let no_splat = arguments.splat.is_none() && arguments.named_splat.is_none();
        let name = match (self.kind(), self.look()) {
            (TokenKind::Name(name), TokenKind::Operator("=")) => Some(name.clone()),
            _ => None,
        };
        let valid = if self.skip_op("*") {
            arguments.splat = Some(self.expression(true)?);
            no_splat
        } else if self.is_op("**") {
            self.advance();
            let valid = arguments.named_splat.is_none();
            arguments.named_splat = Some(self.expression(true)?);
            valid
        } else if let Some(name) = name {
            self.at += 2;
            arguments.named.push((name, self.expression(true)?));
            arguments.named_splat.is_none()
        } else {
            let valid = no_splat && arguments.named.is_empty();
            arguments.positional.push(self.expression(true)?);
            valid
        };
        if valid {
            return Ok(());
        }
        self.fail("invalid syntax for function call expression")
    }

    /// A filter's name, with dots in it.
    fn dotted_name(&mut self) -> Parsed<String> {
        let mut name = self.expect_name()?;
        while self.skip_op(".") {
            name.push('.');
            name.push_str(&self.expect_name()?);
        }
        Ok(name)
    }

    /// One filter, behind its `|`.
    pub(in crate::template) fn filter(&mut self, node: Option<Expr>) -> Parsed<Expr> {
        let line = self.line();
        let name = self.dotted_name()?;
        let arguments = if self.is_op("(") {
            self.call_arguments()?
        } else {
            Arguments::default()
        };
        Expr::new(ExprKind::Filter(node, name, arguments), line)
    }

    fn test(&mut self, node: Expr) -> Parsed<Expr> {
        let line = self.line();
        self.advance();
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let takes_operand = match self.kind() {
            TokenKind::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            TokenKind::Text(_) | TokenKind::Integer(_) | TokenKind::Float(_) => true,
            TokenKind::Operator(operator) => matches!(*operator, "[" | "{"),
            _ => false,
        };
        let mut arguments = Arguments::default();
        if self.is_op("(") {
            arguments = self.call_arguments()?;
        } else if takes_operand {
            if self.is_name("is") {
                return self.fail("You cannot chain multiple tests with is");
            }
            let operand = self.nested(Self::primary)?;
            arguments.positional.push(self.postfix(operand)?);
        }
        let test = Expr::new(ExprKind::Test(node, name, arguments), line)?;
        if negated {
            return Expr::new(ExprKind::Not(test), line);
        }
        Ok(test)
    }
}

enum Subscript {
    Item(Expr),
    Slice([Option<Expr>; 3]),
}
