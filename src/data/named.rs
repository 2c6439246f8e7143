//! The published experiment's tables, read as their publishers ship them.

use super::csv::cyclic;
use super::table::Rows;
use super::{Columns, CsvOptions, Dataset};
use crate::base::memory::make_room;
use crate::{Error, Result};
use jiff::civil::Date;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A data set with a format of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedDataset {
    /// Bike Sharing (UCI): `hour.csv`, 17,379 hourly rows of 2011 and 2012, label `cnt`.
    Bike,
    /// Wine Quality (UCI): `winequality-red.csv` and `winequality-white.csv`, label `quality`.
    Wine,
}

impl std::str::FromStr for NamedDataset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "bike" => Ok(NamedDataset::Bike),
            "wine" => Ok(NamedDataset::Wine),
            _ => Err(Error::InvalidArgument(format!("data set '{name}' is unknown, allowed are 'bike' and 'wine'"))),
        }
    }
}

impl NamedDataset {
    /// Reads the data set from its file, or from the folder that holds its files.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Parse`], as [`Dataset::from_csv`].
    pub fn load(self, path: &Path) -> Result<Dataset> {
        match self {
            NamedDataset::Bike => bike(&files(path, &["hour.csv"])[0]),
            NamedDataset::Wine => wine(&files(path, &["winequality-red.csv", "winequality-white.csv"])),
        }
    }
}

fn files(path: &Path, names: &[&str]) -> Vec<PathBuf> {
    if path.is_dir() { names.iter().map(|name| path.join(name)).collect() } else { vec![path.to_path_buf()] }
}

/// The 19 features: year; day and hour on their circles; weekday one-hot;
/// holiday, workingday, weathersit, temp, atemp, hum, windspeed.
fn bike(path: &Path) -> Result<Dataset> {
    let mut rows = Rows::open(path, ',')?;
    let column = |name: &str| rows.column(name);
    let (date, year, hour, weekday) = (column("dteday")?, column("yr")?, column("hr")?, column("weekday")?);
    let plain = ["holiday", "workingday", "weathersit", "temp", "atemp", "hum", "windspeed"].map(column);
    let plain = plain.into_iter().collect::<Result<Vec<_>>>()?;
    let count = column("cnt")?;
    let first = jiff::civil::date(2011, 1, 1);

    let (mut features, mut labels) = (Vec::new(), Vec::new());
    while rows.advance()? {
        make_room(&mut features, 19)?;
        make_room(&mut labels, 1)?;
        let day: Date = rows.text(date).parse().map_err(|_| rows.fault(date, "is not a date"))?;
        let days = f64::from((day - first).get_days());
        features.push(rows.number(year)? as f32);
        // The 730 days are two years, each a full circle.
        features.extend(cyclic(days / 730.0 * 2.0));
        features.extend(cyclic(rows.number(hour)? / 24.0));
        let today = rows.number(weekday)?;
        if !(0..7).any(|weekday| f64::from(weekday) == today) {
            return Err(rows.fault(weekday, "is not a weekday, 0 to 6"));
        }
        features.extend((0..7).map(|weekday| if f64::from(weekday) == today { 1.0 } else { 0.0 }));
        for &column in &plain {
            features.push(rows.number(column)? as f32);
        }
        labels.push(rows.number(count)?);
    }
    if labels.is_empty() {
        return Err(rows.none());
    }
    Dataset::new(features, vec![19], labels, 1, None)
}

fn wine(paths: &[PathBuf]) -> Result<Dataset> {
    let options: CsvOptions = crate::base::options::parse("wine", r#"{"labels":["quality"],"delimiter":";"}"#)?;
    let (mut features, mut labels, mut columns) = (Vec::new(), Vec::new(), None);
    for path in paths {
        let part = Dataset::from_csv(path, &options)?;
        let part = match &columns {
            Some(first) => part.matched_to(first)?,
            None => Cow::Borrowed(&part),
        };
        if part.feature_shape() != [11] {
            let found = part.width();
            return Err(Error::Parse(format!("{}: has {found} features, Wine Quality has 11", path.display())));
        }
        let values = part.feature_values()?;
        make_room(&mut features, values.len())?;
        features.extend_from_slice(&values);
        make_room(&mut labels, part.labels().len())?;
        labels.extend_from_slice(part.labels());
        columns = part.columns().map(|columns| Columns::clone(columns));
    }
    let data = Dataset::new(features, vec![11], labels, 1, None)?;
    Ok(match columns {
        Some(columns) => data.with_columns(columns),
        None => data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "instant,dteday,season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,\
                          windspeed,casual,registered,cnt\n";

    fn read(row: &str) -> Result<Dataset> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hour.csv"), format!("{HEADER}{row}\n")).unwrap();
        NamedDataset::Bike.load(folder.path())
    }

    #[test]
    fn bike_rows_become_nineteen_features() {
        let data = read("1,2011-07-02,3,0,7,6,0,2,1,1,0.24,0.28,0.81,0.5,3,13,16").unwrap();
        assert_eq!((data.feature_shape(), data.labels()), (&[19][..], &[16.0][..]));
        let x = data.feature_values().unwrap();
        let angle = 182.0 / 730.0 * 4.0 * std::f64::consts::PI;
        assert_eq!(x[..3], [0.0, angle.cos() as f32, angle.sin() as f32]);
        assert!(x[3].abs() < 1e-7);
        assert_eq!(x[4..], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.24, 0.28, 0.81, 0.5]);
    }

    #[test]
    fn bike_faults_are_named() {
        let fault = |row| read(row).unwrap_err().to_string();
        let date = fault("1,2011-13-02,3,0,7,6,0,2,1,1,0.24,0.28,0.81,0.5,3,13,16");
        assert!(date.ends_with("row 1, column 'dteday': '2011-13-02' is not a date"), "{date}");
        let weekday = fault("1,2011-07-02,3,0,7,6,0,7,1,1,0.24,0.28,0.81,0.5,3,13,16");
        assert!(weekday.ends_with("column 'weekday': '7' is not a weekday, 0 to 6"), "{weekday}");
    }
}
