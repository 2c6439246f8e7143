//! Ranks that hold a part of the rows each.

use super::{Fact, Ranks};
use crate::data::{Column, Dataset, Encoding, Holders};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

impl Holders for Ranks {
    fn number(&self) -> usize {
        self.group.rank()
    }

    fn gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>> {
        self.group.all_gather_values(own)
    }

    fn in_turn(&self, sums: &mut [f64], add: &mut dyn FnMut(&mut [f64])) -> Result<()> {
        for turn in 0..self.group.size() {
            let mut tensor = if turn == self.group.rank() {
                add(sums);
                Tensor::f_from_slice(sums)?
            } else {
                Tensor::f_zeros([sums.len() as i64], (Kind::Double, Device::Cpu))?
            };
            // One number and zeros: the sum is exact.
            self.group.all_reduce(&mut tensor)?;
            tensor.f_copy_data(sums, sums.len())?;
        }
        Ok(())
    }
}

impl Ranks {
    /// What the rank that holds the worst row of a mini-batch says of it. Each rank gives what its worst row adds to the
    /// loss, if it holds any, and what it says of that.
    ///
    /// # Errors
    /// [`Error::Distributed`].
    pub(in crate::train) fn fault_of_worst(&self, term: Option<f32>, own: Option<Error>) -> Result<Option<Error>> {
        let terms = self.gather(&[term.map_or(-1.0, f64::from)])?.concat();
        let worst = (0..terms.len()).rev().max_by(|&a, &b| terms[a].total_cmp(&terms[b]));
        let speaks = worst == Some(self.number());
        Ok(self.agree(own.filter(|_| speaks).map_or(Ok(vec![]), Err)).err())
    }
}

/// In what `data`, a rank's own rows of what messages call `what`, must be like those of the other ranks.
pub(in crate::train) fn facts_of_part(what: &str, data: &Dataset) -> Vec<Fact> {
    let are = |there: bool| if there { "given" } else { "none" };
    let mut facts = vec![
        Fact::new(format!("the shape of a row of {what}"), format!("{:?}", data.feature_shape())),
        Fact::new(format!("the number of labels in a row of {what}"), data.outputs()),
        Fact::new(format!("the variances of {what}"), are(data.has_variances())),
        Fact::new(format!("the labels before noise of {what}"), are(data.has_clean_labels())),
    ];
    if let Some(columns) = data.columns() {
        let names: Vec<String> = columns.features.iter().map(described).collect();
        facts.push(Fact::new(format!("the columns of {what}"), names.join(", ")));
        facts.push(Fact::new(format!("the labels of {what}"), columns.labels.join(", ")));
    }
    facts
}

/// The name of a column, and how it became features where that is not as it was.
fn described(column: &Column) -> String {
    let name = &column.name;
    match &column.encoding {
        Encoding::Number => name.clone(),
        Encoding::Cyclic { period } => format!("{name} of period {period}"),
        Encoding::OneHot { categories } => format!("{name} of the categories {}", categories.join(" and ")),
    }
}
