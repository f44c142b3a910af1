//! A parsed template in the words of minijinja, which runs it.
//!
//! minijinja supplies what costs most to get right: the virtual machine, scopes, loops, closures,
//! captured blocks, fuel. What differs in Python is an operator's meaning, so every operator,
//! attribute, call, filter and test becomes a call of one of this crate's functions, registered in
//! [`runtime`](super::runtime) as filters under names that a template cannot use: `a + b` becomes
//! `a|__jj_op("+",b)`. All white space is decided by the lexer, so text becomes a string that is
//! printed. Line breaks inside the tags keep the line numbers.

mod expressions;

use std::fmt::Write;

use super::ast::{Expr, ExprKind, Signature, Statement, StatementKind, Target, jumps, shape, walk};
use super::expressions::Parsed;
use super::syntax_error::SyntaxError;

/// So many branches one `if` may have; minijinja's parser nests them.
const MAX_BRANCHES: usize = 200;

/// The names that minijinja's grammar gives a meaning of their own.
const KEYWORDS: [&str; 9] = [
    "if", "in", "not", "and", "or", "is", "else", "self", "super",
];

/// A template's source as minijinja reads it.
pub(super) fn translate(source: &str) -> Parsed<String> {
    let statements = super::statements::parse(source)?;
    let mut translator = Translator {
        out: String::with_capacity(source.len() * 2),
        line: 1,
        temporaries: 0,
        recursive_shapes: Vec::new(),
        scopes_in_loop: 0,
    };
    translator.statements(&statements)?;
    Ok(translator.out)
}

/// A variable's name in the translation: as it is, unless minijinja could not read it as a name.
pub(super) fn variable_name(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty();
    if plain && !KEYWORDS.contains(&name) {
        return name.to_owned();
    }
    let mut mangled = String::from("__jj_u");
    for c in name.chars() {
        mangled.push_str(&format!("_{:x}", u32::from(c)));
    }
    mangled
}

struct Translator {
    out: String,
    /// The line that `out` has reached; never beyond the source's.
    line: usize,
    temporaries: usize,
    /// What a `loop(…)` unpacks, for the recursive loops around.
    recursive_shapes: Vec<String>,
    /// Scopes between the statement and its innermost loop, which minijinja's jumps do not leave.
    scopes_in_loop: usize,
}

impl Translator {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Starts a new line until the source's is reached. Only valid inside a tag.
    fn reach(&mut self, line: usize) {
        while self.line < line {
            self.out.push('\n');
            self.line += 1;
        }
    }

    fn open(&mut self, line: usize) {
        self.push("{%");
        self.reach(line);
        self.push(" ");
    }

    fn close(&mut self) {
        self.push(" %}");
    }

    fn tag(&mut self, text: &str) {
        let _ = write!(self.out, "{{% {text} %}}");
    }

    fn temporary(&mut self) -> String {
        self.temporaries += 1;
        format!("__jj_t{}", self.temporaries)
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.push("\\\""),
                '\\' => self.push("\\\\"),
                '\n' => self.push("\\n"),
                '\r' => self.push("\\r"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn statements(&mut self, statements: &[Statement]) -> Parsed<()> {
        statements
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Statement) -> Parsed<()> {
        let line = statement.line;
        match &statement.kind {
            StatementKind::Data(text) => {
                self.push("{{");
                self.quoted(text);
                self.push("}}");
                Ok(())
            }
            StatementKind::Print(values) => values.iter().try_for_each(|value| self.print(value)),
            StatementKind::If {
                branches,
                otherwise,
            } => self.conditional(line, branches, otherwise),
            StatementKind::For { .. } => self.for_loop(statement),
            StatementKind::Set(target, value) => self.set(line, target, value),
            StatementKind::SetBlock(target, filter, body) => {
                self.set_block(line, target, filter.as_ref(), body)
            }
            StatementKind::With(values, body) => self.with(line, values, body),
            StatementKind::FilterBlock(filter, body) => {
                let captured = self.capture(line, body)?;
                self.print(&with_operand(filter, &captured)?)
            }
            StatementKind::Macro(name, signature, body) => {
                self.macro_block(line, &variable_name(name), name, signature, body)
            }
            StatementKind::CallBlock(signature, call, body) => {
                self.call_block(line, signature, call, body)
            }
            StatementKind::Scope(body) => self.scope(body),
            StatementKind::Break => self.jump("break", line),
            StatementKind::Continue => self.jump("continue", line),
            StatementKind::Fails(message) => {
                self.push("{{");
                self.reach(line);
                self.quoted(message);
                self.push("|__jj_fail}}");
                Ok(())
            }
        }
    }

    fn print(&mut self, value: &Expr) -> Parsed<()> {
        self.push("{{");
        self.reach(value.line);
        self.push(" ");
        self.expr(value)?;
        self.push(" }}");
        Ok(())
    }

    fn jump(&mut self, tag: &str, line: usize) -> Parsed<()> {
        if self.scopes_in_loop > 0 {
            let message =
                format!("{{% {tag} %}} out of a with, set or filter block is not supported");
            return Err(SyntaxError::new(message, line));
        }
        self.tag(tag);
        Ok(())
    }

    fn scope(&mut self, body: &[Statement]) -> Parsed<()> {
        self.tag("with");
        self.scopes_in_loop += 1;
        let done = self.statements(body);
        self.scopes_in_loop -= 1;
        self.tag("endwith");
        done
    }

    fn conditional(
        &mut self,
        line: usize,
        branches: &[(Expr, Vec<Statement>)],
        otherwise: &[Statement],
    ) -> Parsed<()> {
        if branches.len() > MAX_BRANCHES {
            let message = format!("an if has more than {MAX_BRANCHES} branches");
            return Err(SyntaxError::new(message, line));
        }
        for (index, (test, body)) in branches.iter().enumerate() {
            self.open(test.line);
            self.push(if index == 0 { "if " } else { "elif " });
            self.expr(test)?;
            self.close();
            self.statements(body)?;
        }
        if !otherwise.is_empty() {
            self.tag("else");
            self.statements(otherwise)?;
        }
        self.tag("endif");
        Ok(())
    }

    fn for_loop(&mut self, statement: &Statement) -> Parsed<()> {
        let line = statement.line;
        let StatementKind::For {
            target,
            iterable,
            test,
            recursive,
            body,
            otherwise,
        } = &statement.kind
        else {
            return Ok(());
        };
        if *recursive && test.is_some() {
            let message = "a recursive loop with an if is not supported";
            return Err(SyntaxError::new(message, line));
        }
        // Python's `else` runs unless an iteration came to its end, be there a break or not.
        let ran = (!otherwise.is_empty() && jumps(body)).then(|| self.temporary());
        if let Some(ran) = &ran {
            self.tag(&format!("set {ran} = []|__jj_namespace"));
        }
        let shape = shape(target);
        self.open(line);
        self.push("for ");
        self.target(target);
        self.push(" in ");
        self.expr(iterable)?;
        let _ = write!(self.out, "|__jj_iter({shape})");
        if let Some(test) = test {
            self.push(" if ");
            self.expr(test)?;
        }
        if *recursive {
            self.push(" recursive");
            self.recursive_shapes.push(shape);
        }
        self.close();
        let scopes = std::mem::take(&mut self.scopes_in_loop);
        self.statements(body)?;
        self.scopes_in_loop = scopes;
        if *recursive {
            self.recursive_shapes.pop();
        }
        match &ran {
            Some(ran) => {
                self.push(&format!("{{{{ {ran}|__jj_setattr(\"ran\",true) }}}}"));
                self.tag("endfor");
                self.tag(&format!("if not {ran}|__jj_attr(\"ran\")"));
                self.statements(otherwise)?;
                self.tag("endif");
            }
            None => {
                if !otherwise.is_empty() {
                    self.tag("else");
                    self.statements(otherwise)?;
                }
                self.tag("endfor");
            }
        }
        Ok(())
    }

    /// A target of names only.
    fn target(&mut self, target: &Target) {
        match target {
            Target::Name(name) | Target::Attribute(name, _) => self.push(&variable_name(name)),
            Target::Tuple(items) => {
                self.push("(");
                for item in items {
                    self.target(item);
                    self.push(",");
                }
                self.push(")");
            }
        }
    }

    fn set(&mut self, line: usize, target: &Target, value: &Expr) -> Parsed<()> {
        match target {
            Target::Name(name) => {
                self.open(line);
                let _ = write!(self.out, "set {} = ", variable_name(name));
                self.expr(value)?;
                self.close();
            }
            Target::Attribute(name, attribute) => {
                self.push("{{");
                self.reach(line);
                let _ = write!(self.out, " {}|__jj_setattr(", variable_name(name));
                self.quoted(attribute);
                self.push(",");
                self.expr(value)?;
                self.push(") }}");
            }
            Target::Tuple(_) => {
                let mut attributes = Vec::new();
                let names = self.without_attributes(target, &mut attributes);
                self.open(line);
                self.push("set ");
                self.target(&names);
                self.push(" = ");
                self.expr(value)?;
                let _ = write!(self.out, "|__jj_unpack({})", shape(target));
                self.close();
                for (temporary, target) in attributes {
                    self.set(line, &target, &name_expr(&temporary, line)?)?;
                }
            }
        }
        Ok(())
    }

    /// The target with temporary names where it had namespaces' attributes.
    fn without_attributes(&mut self, target: &Target, found: &mut Vec<(String, Target)>) -> Target {
        match target {
            Target::Name(_) => target.clone(),
            Target::Attribute(..) => {
                let temporary = self.temporary();
                found.push((temporary.clone(), target.clone()));
                Target::Name(temporary)
            }
            Target::Tuple(items) => Target::Tuple(
                items
                    .iter()
                    .map(|item| self.without_attributes(item, found))
                    .collect(),
            ),
        }
    }

    /// Captures a block's text in a variable, whose name is returned.
    fn capture(&mut self, line: usize, body: &[Statement]) -> Parsed<String> {
        let temporary = self.temporary();
        self.open(line);
        let _ = write!(self.out, "set {temporary}");
        self.close();
        self.scope(body)?;
        self.tag("endset");
        Ok(temporary)
    }

    fn set_block(
        &mut self,
        line: usize,
        target: &Target,
        filter: Option<&Expr>,
        body: &[Statement],
    ) -> Parsed<()> {
        let captured = self.capture(line, body)?;
        let value = match filter {
            Some(filter) => with_operand(filter, &captured)?,
            None => name_expr(&captured, line)?,
        };
        self.set(line, target, &value)
    }

    fn with(&mut self, line: usize, values: &[(Target, Expr)], body: &[Statement]) -> Parsed<()> {
        self.tag("with");
        self.scopes_in_loop += 1;
        // All values are computed before the first name is bound.
        let mut bound = Vec::new();
        for (target, value) in values {
            let temporary = self.temporary();
            self.set(line, &Target::Name(temporary.clone()), value)?;
            bound.push((target, temporary));
        }
        for (target, temporary) in bound {
            self.set(line, target, &name_expr(&temporary, line)?)?;
        }
        let done = self.statements(body);
        self.scopes_in_loop -= 1;
        self.tag("endwith");
        done
    }

    fn macro_block(
        &mut self,
        line: usize,
        variable: &str,
        name: &str,
        signature: &Signature,
        body: &[Statement],
    ) -> Parsed<()> {
        let mut used = [("varargs", false), ("kwargs", false), ("caller", false)];
        walk(body, &mut |expr| {
            if let ExprKind::Name(found) = expr {
                for (name, used) in &mut used {
                    *used |= found == name && !signature.names.contains(found);
                }
            }
        });
        self.open(line);
        let _ = write!(self.out, "macro {variable}(__jj_args)");
        self.close();
        self.open(line);
        self.push("set (");
        for name in &signature.names {
            let _ = write!(self.out, "{},", variable_name(name));
        }
        self.push("varargs,kwargs,caller,) = __jj_args|__jj_bind(");
        self.quoted(name);
        self.push(",[");
        for name in &signature.names {
            self.quoted(name);
            self.push(",");
        }
        let _ = write!(self.out, "],{}", signature.defaults.len());
        for (_, used) in used {
            let _ = write!(self.out, ",{used}");
        }
        self.push(")");
        self.close();
        let first_default = signature.names.len() - signature.defaults.len();
        for (name, default) in signature
            .names
            .iter()
            .skip(first_default)
            .zip(&signature.defaults)
        {
            self.tag(&format!("if {}|__jj_is_missing", variable_name(name)));
            self.set(line, &Target::Name(name.clone()), default)?;
            self.tag("endif");
        }
        let scopes = std::mem::take(&mut self.scopes_in_loop);
        let shapes = std::mem::take(&mut self.recursive_shapes);
        let done = self.statements(body);
        self.scopes_in_loop = scopes;
        self.recursive_shapes = shapes;
        self.tag("endmacro");
        done
    }

    fn call_block(
        &mut self,
        line: usize,
        signature: &Signature,
        call: &Expr,
        body: &[Statement],
    ) -> Parsed<()> {
        let caller = self.temporary();
        self.macro_block(line, &caller, "caller", signature, body)?;
        let ExprKind::Call(callee, arguments) = &*call.kind else {
            return Ok(());
        };
        let mut arguments = arguments.clone();
        let value = name_expr(&caller, line)?;
        arguments.named.push(("caller".to_owned(), value));
        self.print(&Expr::new(
            ExprKind::Call(callee.clone(), arguments),
            call.line,
        )?)
    }
}

fn name_expr(name: &str, line: usize) -> Parsed<Expr> {
    Expr::new(ExprKind::Name(name.to_owned()), line)
}

/// A chain of filters with a variable as its first operand.
fn with_operand(filter: &Expr, variable: &str) -> Parsed<Expr> {
    let ExprKind::Filter(operand, name, arguments) = &*filter.kind else {
        return name_expr(variable, filter.line);
    };
    let operand = match operand {
        Some(operand) => with_operand(operand, variable)?,
        None => name_expr(variable, filter.line)?,
    };
    Expr::new(
        ExprKind::Filter(Some(operand), name.clone(), arguments.clone()),
        filter.line,
    )
}
