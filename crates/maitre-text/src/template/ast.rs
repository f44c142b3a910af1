//! A parsed template, as Jinja2's grammar has it.

use super::syntax_error::SyntaxError;

/// Deeper expressions and blocks are refused: everything that walks them recurses.
pub(super) const MAX_DEPTH: usize = 100;

/// An expression and the line it is on.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub(super) kind: Box<ExprKind>,
    pub(super) line: usize,
    depth: usize,
}

#[derive(Debug, Clone)]
pub(super) enum ExprKind {
    Name(String),
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `+ - * / // % **`
    Binary(&'static str, Expr, Expr),
    /// `+ -`
    Unary(&'static str, Expr),
    Not(Expr),
    And(Expr, Expr),
    Or(Expr, Expr),
    /// `a < b <= c`, `a in b`, `a not in b`
    Compare(Expr, Vec<(&'static str, Expr)>),
    /// `a ~ b ~ c`
    Concat(Vec<Expr>),
    Conditional {
        test: Expr,
        yes: Expr,
        no: Option<Expr>,
    },
    Attribute(Expr, String),
    Item(Expr, Expr),
    Slice(Expr, [Option<Expr>; 3]),
    Call(Expr, Arguments),
    /// The body of a filter block has no operand.
    Filter(Option<Expr>, String, Arguments),
    Test(Expr, String, Arguments),
}

/// What a call passes on.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    pub(super) splat: Option<Expr>,
    pub(super) named_splat: Option<Expr>,
}

impl Arguments {
    pub(super) fn is_plain(&self) -> bool {
        self.named.is_empty() && self.splat.is_none() && self.named_splat.is_none()
    }

    fn each(&self) -> impl Iterator<Item = &Expr> {
        self.positional
            .iter()
            .chain(self.named.iter().map(|(_, value)| value))
            .chain(&self.splat)
            .chain(&self.named_splat)
    }
}

impl Expr {
    /// # Errors
    /// The expression is nested too deep.
    pub(super) fn new(kind: ExprKind, line: usize) -> Result<Self, SyntaxError> {
        let mut depth = 0;
        kind.each(&mut |child| depth = depth.max(child.depth + 1));
        // A chain of comparisons becomes a nest of conjunctions.
        if let ExprKind::Compare(_, rest) = &kind {
            depth += rest.len();
        }
        if depth > MAX_DEPTH {
            let message = format!("an expression is nested more than {MAX_DEPTH} deep");
            return Err(SyntaxError::new(message, line));
        }
        Ok(Self {
            kind: Box::new(kind),
            line,
            depth,
        })
    }

    /// Whether Jinja2 computes the expression when it compiles.
    pub(super) fn is_literal(&self) -> bool {
        let mut literal = true;
        self.walk(&mut |kind| {
            literal &= matches!(
                kind,
                ExprKind::None
                    | ExprKind::Bool(_)
                    | ExprKind::Integer(_)
                    | ExprKind::Float(_)
                    | ExprKind::Text(_)
                    | ExprKind::List(_)
                    | ExprKind::Tuple(_)
                    | ExprKind::Dict(_)
            );
        });
        literal
    }

    /// Calls `visit` for this expression and all inside it.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(&ExprKind)) {
        visit(&self.kind);
        self.kind.each(&mut |child| child.walk(visit));
    }
}

impl ExprKind {
    /// Calls `visit` for the expressions right below this one.
    fn each(&self, visit: &mut dyn FnMut(&Expr)) {
        match self {
            Self::Name(_)
            | Self::None
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Float(_)
            | Self::Text(_) => {}
            Self::List(items) | Self::Tuple(items) | Self::Concat(items) => {
                items.iter().for_each(visit);
            }
            Self::Dict(pairs) => pairs.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Binary(_, a, b) | Self::And(a, b) | Self::Or(a, b) | Self::Item(a, b) => {
                visit(a);
                visit(b);
            }
            Self::Unary(_, a) | Self::Not(a) | Self::Attribute(a, _) => visit(a),
            Self::Compare(first, rest) => {
                visit(first);
                rest.iter().for_each(|(_, operand)| visit(operand));
            }
            Self::Conditional { test, yes, no } => {
                visit(test);
                visit(yes);
                no.iter().for_each(visit);
            }
            Self::Slice(object, bounds) => {
                visit(object);
                bounds.iter().flatten().for_each(visit);
            }
            Self::Call(operand, arguments) | Self::Test(operand, _, arguments) => {
                visit(operand);
                arguments.each().for_each(visit);
            }
            Self::Filter(operand, _, arguments) => {
                operand.iter().for_each(&mut *visit);
                arguments.each().for_each(visit);
            }
        }
    }
}

/// What an assignment binds.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Name(String),
    /// `namespace.attribute`
    Attribute(String, String),
    Tuple(Vec<Target>),
}

/// The parameters of a macro or of a call block's body; the last ones have defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Signature {
    pub(super) names: Vec<String>,
    pub(super) defaults: Vec<Expr>,
}

/// A statement and the line it is on.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) kind: StatementKind,
    pub(super) line: usize,
}

#[derive(Debug, Clone)]
pub(super) enum StatementKind {
    Data(String),
    Print(Vec<Expr>),
    If {
        branches: Vec<(Expr, Vec<Statement>)>,
        otherwise: Vec<Statement>,
    },
    For {
        target: Target,
        iterable: Expr,
        test: Option<Expr>,
        recursive: bool,
        body: Vec<Statement>,
        otherwise: Vec<Statement>,
    },
    Set(Target, Expr),
    SetBlock(Target, Option<Expr>, Vec<Statement>),
    With(Vec<(Target, Expr)>, Vec<Statement>),
    FilterBlock(Expr, Vec<Statement>),
    Macro(String, Signature, Vec<Statement>),
    CallBlock(Signature, Expr, Vec<Statement>),
    /// `{% generation %}` and `{% autoescape false %}`: a scope of its own.
    Scope(Vec<Statement>),
    Break,
    Continue,
    /// What Jinja2 refuses when it runs, in transformers' environment (`include` has no loader …).
    Fails(String),
}

/// Calls `visit` for all expressions of statements.
pub(super) fn walk(statements: &[Statement], visit: &mut dyn FnMut(&ExprKind)) {
    use StatementKind as S;
    for statement in statements {
        match &statement.kind {
            S::Data(_) | S::Break | S::Continue | S::Fails(_) => {}
            S::Print(values) => values.iter().for_each(|value| value.walk(visit)),
            S::If {
                branches,
                otherwise,
            } => {
                for (test, body) in branches {
                    test.walk(visit);
                    walk(body, visit);
                }
                walk(otherwise, visit);
            }
            S::For {
                iterable,
                test,
                body,
                otherwise,
                ..
            } => {
                iterable.walk(visit);
                test.iter().for_each(|test| test.walk(visit));
                walk(body, visit);
                walk(otherwise, visit);
            }
            S::Set(_, value) => value.walk(visit),
            S::SetBlock(_, filter, body) => {
                filter.iter().for_each(|filter| filter.walk(visit));
                walk(body, visit);
            }
            S::With(values, body) => {
                values.iter().for_each(|(_, value)| value.walk(visit));
                walk(body, visit);
            }
            S::FilterBlock(value, body) => {
                value.walk(visit);
                walk(body, visit);
            }
            S::CallBlock(signature, value, body) => {
                signature
                    .defaults
                    .iter()
                    .for_each(|value| value.walk(visit));
                value.walk(visit);
                walk(body, visit);
            }
            S::Macro(_, signature, body) => {
                signature
                    .defaults
                    .iter()
                    .for_each(|value| value.walk(visit));
                walk(body, visit);
            }
            S::Scope(body) => walk(body, visit),
        }
    }
}

/// How a target takes a value apart: nothing for a name, a list for a tuple.
pub(super) fn shape(target: &Target) -> String {
    match target {
        Target::Tuple(items) => {
            let inner: Vec<String> = items
                .iter()
                .map(|item| match item {
                    Target::Tuple(_) => shape(item),
                    _ => "0".to_owned(),
                })
                .collect();
            format!("[{}]", inner.join(","))
        }
        _ => String::new(),
    }
}

/// Whether a loop's body breaks or continues that loop.
pub(super) fn jumps(body: &[Statement]) -> bool {
    body.iter().any(|statement| match &statement.kind {
        StatementKind::Break | StatementKind::Continue => true,
        StatementKind::If {
            branches,
            otherwise,
        } => branches.iter().any(|(_, body)| jumps(body)) || jumps(otherwise),
        StatementKind::For { otherwise, .. } => jumps(otherwise),
        _ => false,
    })
}
