//! Shows why a line was refused: the same picture for a service's answer and for a rulebook on this machine.

use portcullis_api::{DenialView, EffectView, RuleView};
use portcullis_core::{Denial, DenialCode, FoundEffect, RuleRef, Span};
use portcullis_policy::{code, explain};

use crate::terminal::plain_lines;

/// Draws a denial that a service answered, with carets under the refused part of the line.
pub(crate) fn draw_view(line: &str, view: &DenialView) -> String {
    draw(line, &of_view(view))
}

/// Draws a denial; what the line holds cannot drive the terminal.
pub(crate) fn draw(line: &str, denial: &Denial) -> String {
    format!("{}\n", plain_lines(explain::draw(line, denial).trim_end()))
}

fn of_view(view: &DenialView) -> Denial {
    let code = DenialCode::from(view.code.clone());
    Denial {
        kind: code::kind_of(&code),
        code,
        span: Span::new(view.span.start, view.span.end),
        subject: view.subject.clone(),
        rule: view.rule.as_ref().map(|RuleView { name, line }| RuleRef { name: name.clone(), line: *line }),
        message: view.message.clone(),
        suggestion: view.suggestion.clone(),
        effects: view.effects.iter().map(effect_of_view).collect(),
        further: view.further.iter().map(of_view).collect(),
    }
}

fn effect_of_view(view: &EffectView) -> FoundEffect {
    FoundEffect {
        kind: view.kind.clone().into(),
        subject: view.subject.clone(),
        via: view.via.clone(),
        span: Span::new(view.span.start, view.span.end),
    }
}
