//! Where something stands in options or in an array, in the counting of the language that shows it: C counts from 0, other
//! languages from 1.

use std::fmt::{Display, Formatter};

/// The path of something in options: `model.hidden[1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

impl Path {
    /// The field `name` of the object here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.with(Step::Name(format!(".{name}")))
    }

    /// The item of the list here that has `index`, counted from 0.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut path = self.clone();
        path.0.push(step);
        path
    }

    /// The same with another beginning, where the path begins with `old`.
    pub(super) fn moved(mut self, old: &str, new: &str) -> Self {
        if let Some(Step::Name(start)) = self.0.first_mut()
            && let Some(rest) = start.strip_prefix(old)
        {
            *start = format!("{new}{rest}");
        }
        self
    }

    /// The path with the first item of a list called `first`.
    pub(super) fn counted_from(&self, first: usize) -> String {
        let step = |step: &Step| match step {
            Step::Name(name) => name.clone(),
            Step::Index(index) => format!("[{}]", index.saturating_add(first)),
        };
        self.0.iter().map(step).collect()
    }
}

impl<T: Into<String>> From<T> for Path {
    fn from(text: T) -> Self {
        Path(vec![Step::Name(text.into())])
    }
}

impl Display for Path {
    fn fmt(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str(&self.counted_from(0))
    }
}

/// The place of an element in an array: the number of its row, of its feature and so on, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element(pub Vec<(&'static str, i64)>);

impl Element {
    /// The place with the first of each called `first`.
    pub(super) fn counted_from(&self, first: usize) -> String {
        let part = |(name, index): &(&str, i64)| format!("{name} {}", index.saturating_add(first as i64));
        self.0.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

impl Display for Element {
    fn fmt(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str(&self.counted_from(0))
    }
}
