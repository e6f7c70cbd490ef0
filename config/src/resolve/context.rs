//! The words in which the resolver asks the file for a value and reports what it lacks.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::duration::Span;
use crate::error::Position;
use crate::field::Field;
use crate::report::{Path, Report};
use crate::text::Text;

/// A group of fields of the file: where it stands and where its errors go.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) path: &'a Path<'a>,
    pub(super) at: Position,
    pub(super) report: &'a Report,
}

impl Context<'_> {
    /// Reports that the value of this group's field is wrong.
    pub(super) fn error<T>(&self, field: &Field<T>, name: &str, message: impl Into<String>) {
        self.report.error(field.at(), &self.path.field(name), message);
    }

    /// The value of a field that must be there.
    pub(super) fn required<'f, T>(&self, field: &'f Field<T>, name: &str) -> Option<&'f T> {
        if field.is_missing() {
            self.report.error(self.at, &self.path.field(name), "is missing");
        }
        field.value()
    }

    /// The value of a number within bounds; a missing one is `default`.
    pub(super) fn number(
        &self,
        field: &Field<u32>,
        name: &str,
        default: u32,
        bounds: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = *or_default(field, &default)?;
        if bounds.contains(&number) {
            return Some(number);
        }
        let (low, high) = bounds.into_inner();
        self.error(field, name, format!("is {number}, and must be from {low} to {high}"));
        None
    }

    /// The value of a bound that may be missing; there is none then.
    pub(super) fn bound(&self, field: &Field<u32>, name: &str) -> Option<Option<u32>> {
        let bound = self.number(field, name, 1, 1..=u32::MAX);
        bound.map(|bound| (!field.is_missing()).then_some(bound))
    }

    /// The value of a duration within bounds; a missing one is `default`.
    pub(super) fn duration(
        &self,
        field: &Field<Text<Span>>,
        name: &str,
        default: Text<Span>,
        bounds: RangeInclusive<Span>,
    ) -> Option<Duration> {
        let Text(span) = *or_default(field, &default)?;
        if bounds.contains(&span) {
            return Some(span.duration());
        }
        let (low, high) = bounds.into_inner();
        self.error(field, name, format!("is {span}, and must be from {low} to {high}"));
        None
    }

    /// Resolves each element of a list; a missing list is empty. All elements are looked at, also after a wrong one.
    pub(super) fn list<'f, T, M>(
        &self,
        field: &'f Field<Vec<Field<T>>>,
        name: &str,
        mut element: impl FnMut(Context<'_>, &'f T) -> Option<M>,
    ) -> Option<Vec<M>> {
        if field.is_missing() {
            return Some(Vec::new());
        }
        let path = self.path.field(name);
        let elements = field.value()?;
        let mut models = Vec::with_capacity(elements.len());
        for (index, field) in elements.iter().enumerate() {
            let context = Context { path: &path.index(index), at: field.at(), report: self.report };
            models.extend(field.value().and_then(|value| element(context, value)));
        }
        (models.len() == elements.len()).then_some(models)
    }

    /// Resolves a list that must be there with at least one element.
    pub(super) fn non_empty_list<'f, T, M>(
        &self,
        field: &'f Field<Vec<Field<T>>>,
        name: &str,
        element: impl FnMut(Context<'_>, &'f T) -> Option<M>,
    ) -> Option<Vec<M>> {
        if self.required(field, name)?.is_empty() {
            self.error(field, name, "is empty: it needs at least one element");
        }
        self.list(field, name, element)
    }

    /// Resolves a group that may be missing, in which case it is `default`.
    pub(super) fn group<T, M>(
        &self,
        field: &Field<T>,
        name: &str,
        default: M,
        resolve: impl FnOnce(Context<'_>, &T) -> Option<M>,
    ) -> Option<M> {
        if field.is_missing() {
            return Some(default);
        }
        let context = Context { path: &self.path.field(name), at: field.at(), report: self.report };
        resolve(context, field.value()?)
    }
}

/// The value, or `default` when the field is missing; `None` when it is wrong.
pub(super) fn or_default<'f, T>(field: &'f Field<T>, default: &'f T) -> Option<&'f T> {
    if field.is_missing() { Some(default) } else { field.value() }
}
