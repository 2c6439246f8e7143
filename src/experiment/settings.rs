//! The settings strings of the published code.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The six comma-separated settings of the published code, unchanged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `tag,seed,dataset,normalize,train_size`
    pub experiment_settings: String,
    /// `model,loss[,value]`: value is epsilon for biv and iv, the threshold for cutoffMSE
    pub model_settings: String,
    /// `False`, or `True,uniform|binary_uniform|gamma`
    pub noise_settings: String,
    /// `boundaries|alphabeta|meanvar|meanvar_avg[,p[,X]]`; ignored without noise
    #[serde(default)]
    pub params_settings: String,
    /// First all first parameters, then all second ones; ignored without noise
    #[serde(default)]
    pub parameters: String,
    /// `batch_size,delta,normalize_loss,learning_rate` (default `256,0,True,0.01`)
    #[serde(default = "published")]
    pub extra_exp: String,
}

fn published() -> String {
    "256,0,True,0.01".into()
}

/// Which field of a description came from which position in the settings.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<(String, String)>);

impl Origins {
    /// Notes that the field at `path` is the value at `position`.
    fn note(&mut self, path: impl Into<String>, position: String) {
        self.0.push((path.into(), position));
    }

    /// Puts the position in the settings where the error has the path of the field.
    pub(super) fn translate(&self, error: Error) -> Error {
        let Error::InvalidConfig { path, message } = error else { return error };
        let text = path.to_string();
        let known = self.0.iter().filter(|(field, _)| text.starts_with(field.as_str()));
        match known.max_by_key(|(field, _)| field.len()) {
            Some((_, position)) => Error::config(position.as_str(), message),
            None => Error::config(path, message),
        }
    }
}

/// The values of one setting, taken one after the other.
struct Fields<'a> {
    setting: &'static str,
    names: &'a [&'a str],
    values: Vec<&'a str>,
    next: usize,
}

impl<'a> Fields<'a> {
    /// Splits `text` into the values called `names`, of which the last `optional` may be missing.
    fn new(setting: &'static str, text: &'a str, names: &'a [&'a str], optional: usize) -> Result<Self> {
        let values: Vec<&str> = text.split(',').map(str::trim).collect();
        let (found, most) = (if text.trim().is_empty() { 0 } else { values.len() }, names.len());
        if found > most || found < most - optional {
            let count = if optional == 0 { format!("{most}") } else { format!("{} to {most}", most - optional) };
            let message = format!("'{text}' has {found} values, expected {count}: {}", names.join(","));
            return Err(Error::config(setting, message));
        }
        Ok(Fields { setting, names, values, next: 0 })
    }

    /// The position of the value taken last.
    fn position(&self) -> String {
        let at = self.next;
        format!("{}, position {at} ({})", self.setting, self.names[at - 1])
    }

    fn fault(&self, allowed: &str) -> Error {
        Error::config(self.position(), format!("'{}' must be {allowed}", self.values[self.next - 1]))
    }

    fn text(&mut self) -> &'a str {
        self.next += 1;
        self.values[self.next - 1]
    }

    fn has_more(&self) -> bool {
        self.next < self.values.len()
    }

    /// One of the words in `allowed`.
    fn choice(&mut self, allowed: &[&str]) -> Result<&'a str> {
        let text = self.text();
        if allowed.contains(&text) { Ok(text) } else { Err(self.fault(&format!("one of {}", allowed.join(", ")))) }
    }

    fn boolean(&mut self) -> Result<bool> {
        Ok(matches!(self.choice(&["True", "False", "true", "false"])?, "True" | "true"))
    }

    fn whole(&mut self) -> Result<u64> {
        self.text().parse().map_err(|_| self.fault("a whole number, at least 0"))
    }

    fn number(&mut self) -> Result<f64> {
        let number = self.text().parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| self.fault("a finite number"))
    }
}

impl Settings {
    /// What the settings say, as an experiment's description; `origins` keeps where they say it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with the setting, the position in it and what is allowed there.
    pub(super) fn description(&self, origins: &mut Origins) -> Result<Value> {
        let names = ["tag", "seed", "dataset", "normalize", "train_size"];
        let mut fields = Fields::new("experiment_settings", &self.experiment_settings, &names, 0)?;
        let (tag, seed) = (fields.text(), fields.whole()?);
        let dataset = fields.choice(&["utkf", "wine", "bike", "synthetic"])?;
        let (normalize, train_size) = (fields.boolean()?, fields.whole()?);
        origins.note("dataset.train_size", fields.position());

        let mut fields =
            Fields::new("extra_exp", &self.extra_exp, &["batch_size", "delta", "normalize_loss", "learning_rate"], 0)?;
        let batch_size = fields.whole()?;
        origins.note("batch_size", fields.position());
        let delta = fields.number()?;
        origins.note("noise.disturbance", fields.position());
        let normalize_loss = fields.boolean()?;
        let learning_rate = fields.number()?;
        origins.note("learning_rate", fields.position());

        let mut fields = Fields::new("model_settings", &self.model_settings, &["model", "loss", "value"], 1)?;
        let model = fields.choice(&["vanilla_ann", "vanilla_cnn", "resnet"])?;
        origins.note("model.kind", fields.position());
        let name = fields.choice(&["mse", "cutoffMSE", "iv", "biv"])?;
        origins.note("loss.kind", fields.position());
        let value = match (name, fields.has_more()) {
            ("mse", _) | (_, false) => None,
            _ => Some(fields.number()?),
        };
        if value.is_some() {
            origins.note("loss.epsilon", fields.position());
            origins.note("loss.threshold", fields.position());
        }
        let loss = match name {
            "mse" => json!({"kind": "mse"}),
            "cutoffMSE" => json!({"kind": "cutoff_mse", "threshold": value}),
            _ => json!({
                "kind": if name == "biv" && normalize_loss { "biv" } else { "iv" },
                "epsilon": value.unwrap_or(0.1),
            }),
        };

        let noise = self.distribution(origins)?.map(|law| json!({"distribution": law, "disturbance": delta}));
        Ok(json!({
            "tag": tag, "seed": seed, "model": {"kind": model}, "loss": loss, "noise": noise,
            "dataset": {"kind": dataset, "train_size": train_size, "normalize": normalize},
            "batch_size": batch_size, "learning_rate": learning_rate,
        }))
    }

    /// The distribution of the noise variances; `None` without noise.
    fn distribution(&self, origins: &mut Origins) -> Result<Option<Value>> {
        let mut fields = Fields::new("noise_settings", &self.noise_settings, &["noise", "distribution"], 1)?;
        if !fields.boolean()? {
            return Ok(None);
        }
        if !fields.has_more() {
            let message = "'True' needs a second value, the distribution: uniform, binary_uniform or gamma";
            return Err(Error::config("noise_settings", message));
        }
        let kind = fields.choice(&["uniform", "binary_uniform", "gamma"])?;

        let mut fields = Fields::new("params_settings", &self.params_settings, &["kind", "p", "X"], 2)?;
        let form = fields.choice(match kind {
            "uniform" => &["boundaries", "meanvar"],
            "binary_uniform" => &["boundaries", "meanvar", "meanvar_avg"],
            _ => &["alphabeta", "meanvar"],
        })?;
        let mut needed = |name: &str| {
            let missing = || Error::config("params_settings", format!("'{form}' of {kind} needs {name} after it"));
            if fields.has_more() { fields.number().map(|value| (value, fields.position())) } else { Err(missing()) }
        };
        let path = "noise.distribution";
        let mut weight = None;
        if kind == "binary_uniform" {
            let (value, position) = needed("p, the first component's weight,")?;
            origins.note(format!("{path}.components[0].weight"), position.clone());
            origins.note(format!("{path}.components[1].weight"), position);
            weight = Some(value);
        }
        let mut average = None;
        if form == "meanvar_avg" {
            let (value, position) = needed("p and X, the average variance,")?;
            origins.note(format!("{path}.average"), position);
            average = Some(value);
        }

        origins.note(path, "parameters".into());
        let mut parameters = Parameters::new(&self.parameters, kind, form)?;
        Ok(Some(match (kind, form) {
            ("uniform", "boundaries") => {
                let (low, high) = (parameters.take(path, "low", origins)?, parameters.take(path, "high", origins)?);
                json!({"kind": kind, "low": low, "high": high})
            }
            ("uniform", _) => {
                let mut component = json!({"kind": kind, "mean": parameters.take(path, "mean", origins)?});
                let spread = parameters.spread();
                component[spread] = parameters.take(path, spread, origins)?.into();
                component
            }
            ("gamma", "alphabeta") => {
                let (alpha, beta) = (parameters.take(path, "alpha", origins)?, parameters.take(path, "beta", origins)?);
                json!({"kind": kind, "alpha": alpha, "beta": beta})
            }
            ("gamma", _) => {
                let (mean, variance) =
                    (parameters.take(path, "mean", origins)?, parameters.take(path, "variance", origins)?);
                json!({"kind": kind, "mean": mean, "variance": variance})
            }
            _ => {
                let [first, second] = [0, 1].map(|at| format!("{path}.components[{at}]"));
                let (mut a, mut b) = (json!({"weight": weight}), json!({}));
                let (one, two) = if form == "boundaries" { ("low", "high") } else { ("mean", parameters.spread()) };
                a[one] = parameters.take(&first, one, origins)?.into();
                let second_mean = parameters.take(&second, one, origins)?;
                // With an average, that determines the second mean.
                if average.is_none() {
                    b[one] = second_mean.into();
                }
                a[two] = parameters.take(&first, two, origins)?.into();
                // One scale is for both components.
                b[two] = if two == "heteroscedasticity" {
                    a[two].clone()
                } else {
                    parameters.take(&second, two, origins)?.into()
                };
                let mut mixture = json!({"kind": kind, "components": [a, b]});
                if let Some(average) = average {
                    mixture["average"] = average.into();
                }
                mixture
            }
        }))
    }
}

/// The setting `parameters`, whose values depend on distribution and kind.
struct Parameters<'a> {
    fields: Fields<'a>,
    /// Whether the published code's var_scale was True: maximum heteroscedasticity.
    scaled: bool,
}

impl<'a> Parameters<'a> {
    fn new(text: &'a str, kind: &str, form: &str) -> Result<Self> {
        // The published code takes a boolean before the gamma distribution's parameters, and ignores it.
        let flag = text.split(',').next().unwrap_or_default().trim().parse::<f64>().is_err();
        let names: &[&str] = match (kind, form, flag) {
            ("uniform", "boundaries", _) => &["a", "b"],
            ("binary_uniform", "boundaries", _) => &["a1", "a2", "b1", "b2"],
            ("binary_uniform", ..) => &["var_scale", "mu1", "mu2", "V1", "V2"],
            ("gamma", "alphabeta", true) => &["var_scale", "alpha", "beta"],
            ("gamma", "alphabeta", false) => &["alpha", "beta"],
            ("gamma", _, false) => &["mu", "V"],
            _ => &["var_scale", "mu", "V"],
        };
        let mut fields = Fields::new("parameters", text, names, 0)?;
        let scaled = names[0] == "var_scale" && fields.boolean()?;
        Ok(Parameters { fields, scaled })
    }

    /// What V and V1 stand for.
    fn spread(&self) -> &'static str {
        if self.scaled { "heteroscedasticity" } else { "variance" }
    }

    /// The next value, which becomes the field `name` of the object at `path`.
    fn take(&mut self, path: &str, name: &str, origins: &mut Origins) -> Result<f64> {
        let value = self.fields.number()?;
        origins.note(format!("{path}.{name}"), self.fields.position());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Config;
    use proptest::prelude::*;

    fn settings(strings: [&str; 6]) -> Settings {
        let [experiment_settings, model_settings, noise_settings, params_settings, parameters, extra_exp] =
            strings.map(String::from);
        Settings { experiment_settings, model_settings, noise_settings, params_settings, parameters, extra_exp }
    }

    /// Legal settings with the one at `index` replaced.
    fn fault(index: usize, text: &str) -> String {
        let mut strings = [
            "t,1,bike,True,7000",
            "vanilla_ann,biv,0.5",
            "True,binary_uniform",
            "meanvar_avg,0.5,3000",
            "False,0.5,1,0.03,0",
            "256,0,True,0.01",
        ];
        strings[index] = text;
        let value = json!({"settings": settings(strings)});
        Config::from_value(value).unwrap_err().to_string()
    }

    #[test]
    fn each_value_is_checked_where_it_stands() {
        const TABLE: &[(usize, &str, &str)] = &[
            (0, "", "experiment_settings: '' has 0 values, expected 5: tag,seed,dataset,normalize,train_size"),
            (0, "t,1,bike,True", "has 4 values, expected 5"),
            (0, "t,1,bike,True,7000,1", "has 6 values, expected 5"),
            (0, "t,x,bike,True,7000", "experiment_settings, position 2 (seed): 'x' must be a whole number, at least 0"),
            (0, "t,-1,bike,True,7000", "position 2 (seed): '-1' must be a whole number"),
            (0, "t,1,mnist,True,7000", "position 3 (dataset): 'mnist' must be one of utkf, wine, bike, synthetic"),
            (0, "t,1,bike,yes,7000", "position 4 (normalize): 'yes' must be one of True, False"),
            (0, "t,1,bike,True,7e3", "position 5 (train_size): '7e3' must be a whole number"),
            (0, "t,1,bike,True,0", "experiment_settings, position 5 (train_size): is 0, must be at least 1"),
            (0, "t,1,utkf,True,16000", "model_settings, position 1 (model): is a network for tables"),
            (1, "vanilla_ann", "model_settings: 'vanilla_ann' has 1 values, expected 2 to 3: model,loss,value"),
            (1, "ann,mse", "position 1 (model): 'ann' must be one of vanilla_ann, vanilla_cnn, resnet"),
            (1, "resnet,mse", "model_settings, position 1 (model): is a network for images, must be 'vanilla_ann'"),
            (1, "vanilla_ann,l2", "position 2 (loss): 'l2' must be one of mse, cutoffMSE, iv, biv"),
            (1, "vanilla_ann,biv,big", "position 3 (value): 'big' must be a finite number"),
            (1, "vanilla_ann,biv,inf", "position 3 (value): 'inf' must be a finite number"),
            (1, "vanilla_ann,biv,0", "model_settings, position 3 (value): is 0, must be greater than 0"),
            (1, "vanilla_ann,iv,-1", "model_settings, position 3 (value): is -1, must be greater than 0"),
            (1, "vanilla_ann,cutoffMSE,0", "model_settings, position 3 (value): is 0, must be greater than 0"),
            (2, "", "noise_settings: '' has 0 values, expected 1 to 2"),
            (2, "False", "model_settings, position 2 (loss): weighs by noise variances, must be 'mse'"),
            (2, "True", "noise_settings: 'True' needs a second value, the distribution"),
            (2, "Maybe,gamma", "noise_settings, position 1 (noise): 'Maybe' must be one of True, False"),
            (2, "True,normal", "position 2 (distribution): 'normal' must be one of uniform, binary_uniform, gamma"),
            (2, "True,gamma", "params_settings, position 1 (kind): 'meanvar_avg' must be one of alphabeta, meanvar"),
            (2, "True,uniform", "position 1 (kind): 'meanvar_avg' must be one of boundaries, meanvar"),
            (3, "", "params_settings: '' has 0 values, expected 1 to 3: kind,p,X"),
            (3, "alphabeta", "position 1 (kind): 'alphabeta' must be one of boundaries, meanvar, meanvar_avg"),
            (3, "meanvar", "params_settings: 'meanvar' of binary_uniform needs p"),
            (3, "meanvar_avg,0.5", "params_settings: 'meanvar_avg' of binary_uniform needs p and X"),
            (3, "meanvar_avg,2,3000", "params_settings, position 2 (p): is 2, must be in [0, 1]"),
            (3, "meanvar_avg,half,3000", "params_settings, position 2 (p): 'half' must be a finite number"),
            (3, "meanvar_avg,0.5,0.1", "params_settings, position 3 (X): is 0.1, must be at least what"),
            (3, "meanvar_avg,0.5,x", "params_settings, position 3 (X): 'x' must be a finite number"),
            (4, "", "parameters: '' has 0 values, expected 5: var_scale,mu1,mu2,V1,V2"),
            (4, "False,0.5,1,0.03", "has 4 values, expected 5"),
            (4, "No,0.5,1,0.03,0", "parameters, position 1 (var_scale): 'No' must be one of True, False"),
            (4, "False,mu,1,0.03,0", "parameters, position 2 (mu1): 'mu' must be a finite number"),
            (4, "False,-1,1,0.03,0", "parameters, position 2 (mu1): is -1, must be at least 0"),
            (4, "False,0.5,1,0.9,0", "parameters, position 4 (V1): is 0.9, with mean 0.5 it must be at most 0.0833"),
            (4, "True,0.5,1,1.5,0", "parameters, position 4 (V1): is 1.5, must be in [0, 1]"),
            (4, "False,0.5,1,0.03,-1", "parameters, position 5 (V2): is -1, must be at least 0"),
            (5, "256,0,True", "extra_exp: '256,0,True' has 3 values, expected 4: batch_size,delta,normalize_loss"),
            (5, "0,0,True,0.01", "extra_exp, position 1 (batch_size): is 0, must be at least 1"),
            (5, "7001,0,True,0.01", "extra_exp, position 1 (batch_size): is 7001, must be at most train_size, 7000"),
            (5, "256,-1,True,0.01", "extra_exp, position 2 (delta): is -1, must be at least 0"),
            (5, "256,0,maybe,0.01", "extra_exp, position 3 (normalize_loss): 'maybe' must be one of True, False"),
            (5, "256,0,True,0", "extra_exp, position 4 (learning_rate): is 0, must be greater than 0"),
        ];
        for (index, text, message) in TABLE {
            assert!(fault(*index, text).contains(message), "{text}: {}", fault(*index, text));
        }
    }

    #[test]
    fn parameters_of_other_distributions_are_checked_too() {
        for (noise, kind, parameters, message) in [
            ("uniform", "boundaries", "2,1", "parameters, position 2 (b): is 1, must be at least low, 2"),
            ("uniform", "boundaries", "-1,1", "parameters, position 1 (a): is -1, must be at least 0"),
            ("uniform", "meanvar", "True,0.5,2", "parameters, position 3 (V): is 2, must be in [0, 1]"),
            ("gamma", "alphabeta", "0,1", "parameters, position 1 (alpha): is 0, must be greater than 0"),
            ("gamma", "meanvar", "False,1,0", "parameters, position 3 (V): is 0, must be greater than 0"),
            ("gamma", "meanvar", "False,1", "parameters: 'False,1' has 2 values, expected 3: var_scale,mu,V"),
            (
                "binary_uniform",
                "boundaries,0.5",
                "0,1,1,0.5",
                "parameters, position 4 (b2): is 0.5, must be at least low, 1",
            ),
        ] {
            let noise = format!("True,{noise}");
            let strings = ["t,1,bike,True,7000", "vanilla_ann,biv,0.5", &noise, kind, parameters, "256,0,True,0.01"];
            let fault = Config::from_value(json!({"settings": settings(strings)})).unwrap_err().to_string();
            assert!(fault.contains(message), "{noise} {kind} {parameters}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn any_strings_resolve_or_are_an_error_of_the_config(
            strings in prop::array::uniform6(
                "(t|True|False|biv|mse|cutoffMSE|resnet|vanilla_ann|bike|utkf|uniform|gamma|binary_uniform|meanvar|\
                  meanvar_avg|boundaries|alphabeta|-?[0-9]{1,4}(\\.[0-9])?|1e308|nan|é|,|,|,){0,9}"
            ),
            legal in prop::array::uniform6(any::<bool>()),
        ) {
            let mut chosen = ["t,1,bike,True,7000", "vanilla_ann,biv,0.5", "True,binary_uniform", "meanvar_avg,0.5,3000",
                              "False,0.5,1,0.03,0", "256,0,True,0.01"];
            for (at, text) in strings.iter().enumerate().filter(|(at, _)| !legal[*at]) {
                chosen[at] = text;
            }
            match Config::from_value(json!({"settings": settings(chosen)})) {
                Ok(config) => prop_assert_eq!(&Config::from_value(config.to_value()).unwrap(), &config),
                Err(Error::InvalidConfig { .. }) => {}
                Err(other) => prop_assert!(false, "{:?}: {}", chosen, other),
            }
        }
    }
}
