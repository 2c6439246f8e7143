//! Your own arrays, a model of them with error bars, and its prediction.

use biv::data::Dataset;
use biv::data::array::ArrayView;
use biv::train::fit::{FitOptions, default_network, fit};
use std::ops::ControlFlow;

fn main() -> biv::Result<()> {
    // y = x0 + 2 x1, each label with noise whose variance is known.
    let rows = 2000;
    let x: Vec<f64> = (0..rows).flat_map(|i| [(i % 61) as f64 / 61.0, (i % 53) as f64 / 53.0]).collect();
    let variances: Vec<f64> = (0..rows).map(|i| if i % 2 == 1 { 0.01 } else { 4.0 }).collect();
    let uniform = |i: usize| (i * 7919 % 1000) as f64 / 1000.0 - 0.5;
    let y: Vec<f64> =
        (0..rows).map(|i| x[2 * i] + 2.0 * x[2 * i + 1] + (12.0 * variances[i]).sqrt() * uniform(i)).collect();

    let (x, variances) = (ArrayView::f64(&x, &[rows, 2])?, ArrayView::f64(&variances, &[rows])?);
    let data = Dataset::from_arrays(&x, &ArrayView::f64(&y, &[rows])?, Some(&variances))?;
    let options = FitOptions::default();
    let (model, report) = fit(&default_network(&data), &data, &options, &mut |_| ControlFlow::Continue(()))?;
    let prediction = model.predict_array(&ArrayView::f64(&[0.5, 0.5], &[1, 2])?)?;
    println!("y(0.5, 0.5) = 1.5, predicted {:.2} after {} epochs", prediction.mean[0], report.stop_epoch);
    model.save("model.biv".as_ref())
}
