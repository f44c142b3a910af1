//! Jinja2's statements, with loop controls and transformers' `{% generation %}`.

use super::ast::{Expr, ExprKind, Signature, Statement, StatementKind, Target};
use super::expressions::{Parsed, Parser};
use super::lexer::{self, TokenKind};

/// Names that this crate's translation uses itself.
pub(super) const RESERVED_PREFIX: &str = "__jj_";

/// Parses a template.
pub(super) fn parse(source: &str) -> Parsed<Vec<Statement>> {
    let mut parser = Parser::new(lexer::tokens(source)?);
    parser.subparse(&[])
}

impl Parser {
    /// Statements up to one of the tags in `end`, which stays the current token; without any, up to the
    /// end of the template.
    fn subparse(&mut self, end: &[&str]) -> Parsed<Vec<Statement>> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let kind = match self.kind().clone() {
                TokenKind::Data(text) => {
                    self.advance();
                    StatementKind::Data(text)
                }
                TokenKind::VariableBegin => {
                    self.advance();
                    let value = self.tuple(true, false)?;
                    self.expect_end(&TokenKind::VariableEnd)?;
                    StatementKind::Print(vec![value])
                }
                TokenKind::BlockBegin => {
                    self.advance();
                    if end.iter().any(|name| self.is_name(name)) {
                        return Ok(body);
                    }
                    let kind = self.nested(Self::statement)?;
                    self.expect_end(&TokenKind::BlockEnd)?;
                    kind
                }
                TokenKind::End if end.is_empty() => return Ok(body),
                TokenKind::End => {
                    let tags = end.join("' or '");
                    return self.fail(format!("unexpected end of template, expected '{tags}'"));
                }
                _ => return self.fail(format!("unexpected {}", self.describe())),
            };
            body.push(Statement { kind, line });
        }
    }

    fn expect_end(&mut self, end: &TokenKind) -> Parsed<()> {
        if self.kind() == end {
            self.advance();
            return Ok(());
        }
        let expected = match end {
            TokenKind::VariableEnd => "end of print statement",
            _ => "end of statement block",
        };
        self.fail(format!("expected {expected}, got {}", self.describe()))
    }

    /// A block's body. The end tag's name stays the current token.
    fn body(&mut self, end: &[&str]) -> Parsed<Vec<Statement>> {
        self.skip_op(":");
        self.expect_end(&TokenKind::BlockEnd)?;
        self.subparse(end)
    }

    /// A block's body and its end tag.
    fn body_to_end(&mut self, end: &str) -> Parsed<Vec<Statement>> {
        let body = self.body(&[end])?;
        self.advance();
        Ok(body)
    }

    /// The body of what becomes a function of its own in Python, where no `break` reaches out.
    fn function_body(&mut self, end: &str) -> Parsed<Vec<Statement>> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.body_to_end(end);
        self.loops = loops;
        body
    }

    fn statement(&mut self) -> Parsed<StatementKind> {
        let TokenKind::Name(tag) = self.kind().clone() else {
            return self.fail(format!("tag name expected, got {}", self.describe()));
        };
        let unknown_at = self.line();
        self.advance();
        match tag.as_str() {
            "for" => self.for_loop(),
            "if" => self.conditional_block(),
            "set" => self.set(),
            "with" => self.with(),
            "print" => self.print(),
            "macro" => self.macro_block(),
            "call" => self.call_block(),
            "filter" => {
                let filter = self.filters()?;
                let Some(filter) = filter else {
                    return self.fail("expected a filter");
                };
                Ok(StatementKind::FilterBlock(
                    filter,
                    self.body_to_end("endfilter")?,
                ))
            }
            "generation" => Ok(StatementKind::Scope(self.function_body("endgeneration")?)),
            "break" | "continue" if self.loops == 0 => self.fail(format!("'{tag}' outside loop")),
            "break" => Ok(StatementKind::Break),
            "continue" => Ok(StatementKind::Continue),
            "autoescape" => self.autoescape(),
            "block" => self.block(),
            "include" | "import" | "from" | "extends" => {
                while !matches!(self.kind(), TokenKind::BlockEnd | TokenKind::End) {
                    self.advance();
                }
                let message = format!("{{% {tag} %}}: a chat template cannot load other templates");
                Ok(StatementKind::Fails(message))
            }
            _ => Err(super::syntax_error::SyntaxError::new(
                format!("unknown tag '{tag}'"),
                unknown_at,
            )),
        }
    }

    fn for_loop(&mut self) -> Parsed<StatementKind> {
        let target = self.target(true, false)?;
        if !self.skip_name("in") {
            return self.fail(format!("expected 'in', got {}", self.describe()));
        }
        let iterable = self.tuple(false, false)?;
        let test = if self.skip_name("if") {
            Some(self.expression(true)?)
        } else {
            None
        };
        let recursive = self.skip_name("recursive");
        // A recursive loop's body is a function of its own; its loop is inside that.
        let loops = self.loops;
        self.loops = if recursive { 1 } else { loops + 1 };
        let body = self.body(&["endfor", "else"]);
        self.loops = loops;
        let body = body?;
        let otherwise = if self.skip_name("else") {
            self.body(&["endfor"])?
        } else {
            Vec::new()
        };
        self.advance();
        Ok(StatementKind::For {
            target,
            iterable,
            test,
            recursive,
            body,
            otherwise,
        })
    }

    fn conditional_block(&mut self) -> Parsed<StatementKind> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        loop {
            let test = self.tuple(false, false)?;
            branches.push((test, self.body(&["elif", "else", "endif"])?));
            if self.skip_name("elif") {
                continue;
            }
            if self.skip_name("else") {
                otherwise = self.body(&["endif"])?;
            }
            self.advance();
            return Ok(StatementKind::If {
                branches,
                otherwise,
            });
        }
    }

    fn set(&mut self) -> Parsed<StatementKind> {
        let target = self.target(true, true)?;
        if self.skip_op("=") {
            return Ok(StatementKind::Set(target, self.tuple(true, false)?));
        }
        let filter = if self.skip_op("|") {
            self.filters()?
        } else {
            None
        };
        let body = self.body_to_end("endset")?;
        Ok(StatementKind::SetBlock(target, filter, body))
    }

    /// A chain of filters without an operand.
    fn filters(&mut self) -> Parsed<Option<Expr>> {
        let mut filter = self.filter(None)?;
        while self.skip_op("|") {
            filter = self.filter(Some(filter))?;
        }
        Ok(Some(filter))
    }

    fn with(&mut self) -> Parsed<StatementKind> {
        let mut values = Vec::new();
        while self.kind() != &TokenKind::BlockEnd && !self.is_op(":") {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target(false, false)?;
            self.expect_op("=")?;
            values.push((target, self.expression(true)?));
        }
        let body = self.body_to_end("endwith")?;
        Ok(StatementKind::With(values, body))
    }

    fn print(&mut self) -> Parsed<StatementKind> {
        let mut values = Vec::new();
        while self.kind() != &TokenKind::BlockEnd {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            values.push(self.expression(true)?);
        }
        Ok(StatementKind::Print(values))
    }

    fn macro_block(&mut self) -> Parsed<StatementKind> {
        let name = self.assignable()?;
        let signature = self.signature()?;
        let body = self.function_body("endmacro")?;
        Ok(StatementKind::Macro(name, signature, body))
    }

    fn call_block(&mut self) -> Parsed<StatementKind> {
        let signature = if self.is_op("(") {
            self.signature()?
        } else {
            Signature::default()
        };
        let call = self.expression(true)?;
        if !matches!(*call.kind, ExprKind::Call(..)) {
            return self.fail("expected call");
        }
        let body = self.function_body("endcall")?;
        Ok(StatementKind::CallBlock(signature, call, body))
    }

    fn signature(&mut self) -> Parsed<Signature> {
        self.expect_op("(")?;
        let mut signature = Signature::default();
        while !self.is_op(")") {
            if !signature.names.is_empty() {
                self.expect_op(",")?;
            }
            let name = self.assignable()?;
            if signature.names.contains(&name) {
                return self.fail(format!("duplicate argument '{name}'"));
            }
            signature.names.push(name);
            if self.skip_op("=") {
                signature.defaults.push(self.expression(true)?);
            } else if !signature.defaults.is_empty() {
                return self.fail("non-default argument follows default argument");
            }
        }
        self.expect_op(")")?;
        Ok(signature)
    }

    fn autoescape(&mut self) -> Parsed<StatementKind> {
        let wanted = self.expression(true)?;
        let body = self.body_to_end("endautoescape")?;
        Ok(match *wanted.kind {
            ExprKind::Bool(false) => StatementKind::Scope(body),
            _ => StatementKind::Fails("{% autoescape %} is not supported".to_owned()),
        })
    }

    /// A block of a template that extends none is printed where it stands. It sees what the template
    /// has set at its top level, which cannot be told apart from a loop's or macro's names inside one.
    fn block(&mut self) -> Parsed<StatementKind> {
        let name = self.expect_name()?;
        let scoped = self.skip_name("scoped");
        self.skip_name("required");
        let in_loop = self.loops > 0 && !scoped;
        let body = self.function_body("endblock")?;
        self.skip_name(&name);
        if in_loop {
            let message = format!("{{% block {name} %}} inside a loop is not supported");
            return Ok(StatementKind::Fails(message));
        }
        Ok(StatementKind::Scope(body))
    }

    /// A name that may be bound.
    fn assignable(&mut self) -> Parsed<String> {
        let name = self.expect_name()?;
        self.check_assignable(&name)?;
        Ok(name)
    }

    fn check_assignable(&self, name: &str) -> Parsed<()> {
        let constants = ["true", "True", "false", "False", "none", "None"];
        if constants.contains(&name) || name.starts_with(RESERVED_PREFIX) {
            return self.fail(format!("can't assign to '{name}'"));
        }
        if name == "loop" {
            return self.fail("a variable named loop is not supported");
        }
        Ok(())
    }

    fn target(&mut self, with_tuple: bool, with_namespace: bool) -> Parsed<Target> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let at_end = self.kind() == &TokenKind::BlockEnd || self.is_op(")");
            if at_end && is_tuple {
                break;
            }
            items.push(self.one_target(with_namespace)?);
            if !with_tuple || !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                items.extend(last);
                Ok(Target::Tuple(items))
            }
        }
    }

    fn one_target(&mut self, with_namespace: bool) -> Parsed<Target> {
        if self.skip_op("(") {
            let target = self.nested(|parser| parser.target(true, with_namespace))?;
            self.expect_op(")")?;
            return Ok(target);
        }
        let name = self.expect_name()?;
        if with_namespace && self.skip_op(".") {
            return Ok(Target::Attribute(name, self.expect_name()?));
        }
        self.check_assignable(&name)?;
        Ok(Target::Name(name))
    }
}
