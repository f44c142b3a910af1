//! Expressions: every operator becomes a call of this crate's function for it.

use std::fmt::Write;

use super::{Translator, variable_name};
use crate::template::ast::{Arguments, Expr, ExprKind};
use crate::template::expressions::Parsed;

impl Translator {
    pub(super) fn expr(&mut self, expr: &Expr) -> Parsed<()> {
        match &*expr.kind {
            ExprKind::Name(name) if name == "self" => {
                self.push("\"the name self is not supported\"|__jj_fail");
            }
            ExprKind::Name(name) => self.push(&variable_name(name)),
            ExprKind::None => self.push("none"),
            ExprKind::Bool(value) => self.push(if *value { "true" } else { "false" }),
            ExprKind::Integer(number) => {
                let _ = write!(self.out, "{number}");
            }
            ExprKind::Float(number) => {
                let _ = write!(self.out, "\"{number:?}\"|__jj_float");
            }
            ExprKind::Text(text) => self.quoted(text),
            ExprKind::List(items) => self.built(items, "list")?,
            ExprKind::Tuple(items) => self.built(items, "tuple")?,
            ExprKind::Concat(items) => self.built(items, "concat")?,
            ExprKind::Dict(pairs) => {
                let flat: Vec<&Expr> = pairs.iter().flat_map(|(key, value)| [key, value]).collect();
                self.push("[");
                self.comma_separated(flat)?;
                self.push("]|__jj_dict");
            }
            ExprKind::Binary(operator, left, right) => {
                self.expr(left)?;
                self.reach(right.line);
                let _ = write!(self.out, "|__jj_op(\"{operator}\",");
                self.expr(right)?;
                self.push(")");
            }
            ExprKind::Unary(operator, operand) => {
                self.expr(operand)?;
                let _ = write!(self.out, "|__jj_unary(\"{operator}\")");
            }
            ExprKind::Not(operand) => {
                self.push("(not ");
                self.expr(operand)?;
                self.push(")");
            }
            ExprKind::And(left, right) => self.logical(left, "and", right)?,
            ExprKind::Or(left, right) => self.logical(left, "or", right)?,
            ExprKind::Compare(first, rest) => self.compare(first, rest)?,
            ExprKind::Conditional { test, yes, no } => {
                self.push("(");
                self.expr(yes)?;
                self.push(" if ");
                self.expr(test)?;
                if let Some(no) = no {
                    self.push(" else ");
                    self.expr(no)?;
                }
                self.push(")");
            }
            ExprKind::Attribute(object, name) => {
                self.expr(object)?;
                self.reach(expr.line);
                self.push("|__jj_attr(");
                self.quoted(name);
                self.push(")");
            }
            ExprKind::Item(object, key) => {
                self.expr(object)?;
                self.reach(expr.line);
                self.push("|__jj_item(");
                self.expr(key)?;
                self.push(")");
            }
            ExprKind::Slice(object, bounds) => {
                self.expr(object)?;
                self.push(if object.is_literal() {
                    "|__jj_literal_slice("
                } else {
                    "|__jj_slice("
                });
                for bound in bounds {
                    match bound {
                        Some(bound) => self.expr(bound)?,
                        None => self.push("none"),
                    }
                    self.push(",");
                }
                self.push(")");
            }
            ExprKind::Call(callee, arguments) => self.call(callee, arguments, expr.line)?,
            ExprKind::Filter(operand, name, arguments) => {
                if let Some(operand) = operand {
                    self.expr(operand)?;
                }
                self.named_call("filter", name, arguments, expr.line)?;
            }
            ExprKind::Test(operand, name, arguments) => {
                self.expr(operand)?;
                self.named_call("test", name, arguments, expr.line)?;
            }
        }
        Ok(())
    }

    fn comma_separated<'a>(&mut self, items: impl IntoIterator<Item = &'a Expr>) -> Parsed<()> {
        for item in items {
            self.expr(item)?;
            self.push(",");
        }
        Ok(())
    }

    fn built(&mut self, items: &[Expr], what: &str) -> Parsed<()> {
        self.push("[");
        self.comma_separated(items)?;
        let _ = write!(self.out, "]|__jj_{what}");
        Ok(())
    }

    /// minijinja folds constants, and makes truth values of these.
    fn logical(&mut self, left: &Expr, operator: &str, right: &Expr) -> Parsed<()> {
        self.push("(");
        self.expr(left)?;
        self.push("|__jj_same");
        let _ = write!(self.out, " {operator} ");
        self.expr(right)?;
        self.push(")");
        Ok(())
    }

    /// `a < b < c` holds if `a < b and b < c` does, with `b` computed once: the first comparison keeps it, and
    /// the second, which begins right after, takes it.
    fn compare(&mut self, first: &Expr, rest: &[(&'static str, Expr)]) -> Parsed<()> {
        let last = rest.len().saturating_sub(1);
        self.push(if last > 0 { "(" } else { "" });
        for (index, (operator, right)) in rest.iter().enumerate() {
            if index == 0 {
                self.expr(first)?;
            } else {
                self.push(" and none|__jj_kept");
            }
            let compare = if index < last { "cmp_keep" } else { "cmp" };
            let _ = write!(self.out, "|__jj_{compare}(\"{operator}\",");
            self.expr(right)?;
            self.push(")");
        }
        self.push(if last > 0 { ")" } else { "" });
        Ok(())
    }

    fn call(&mut self, callee: &Expr, arguments: &Arguments, line: usize) -> Parsed<()> {
        match &*callee.kind {
            ExprKind::Attribute(object, name) => {
                self.expr(object)?;
                self.named_call("method", name, arguments, line)
            }
            // minijinja recurses where `loop` is called by this name.
            ExprKind::Name(name)
                if name == "loop" && arguments.is_plain() && arguments.positional.len() == 1 =>
            {
                let shape = self.recursive_shapes.last().cloned().unwrap_or_default();
                self.push("loop(");
                self.comma_separated(&arguments.positional)?;
                self.out.pop();
                let _ = write!(self.out, "|__jj_iter({shape}))");
                Ok(())
            }
            kind => {
                let name = match kind {
                    ExprKind::Name(name) => name.as_str(),
                    _ => "",
                };
                self.expr(callee)?;
                self.named_call("call", name, arguments, line)
            }
        }
    }

    fn named_call(
        &mut self,
        what: &str,
        name: &str,
        arguments: &Arguments,
        line: usize,
    ) -> Parsed<()> {
        self.reach(line);
        let _ = write!(self.out, "|__jj_{what}(");
        self.quoted(name);
        self.push(",");
        self.arguments(arguments)?;
        self.push(")");
        Ok(())
    }

    /// Positional arguments as they are; anything else packed in one value.
    fn arguments(&mut self, arguments: &Arguments) -> Parsed<()> {
        if arguments.is_plain() {
            return self.comma_separated(&arguments.positional);
        }
        self.push("[");
        self.comma_separated(&arguments.positional)?;
        self.push("]|__jj_args([");
        for (name, value) in &arguments.named {
            self.quoted(name);
            self.push(",");
            self.expr(value)?;
            self.push(",");
        }
        self.push("]");
        for splat in [&arguments.splat, &arguments.named_splat] {
            self.push(",");
            match splat {
                Some(splat) => self.built(std::slice::from_ref(splat), "list")?,
                None => self.push("none"),
            }
        }
        self.push(")");
        Ok(())
    }
}
