//! `[prices."provider/model"]`: what a model costs, for agents that do not say it.
//!
//! None is built in: a price that is not of its day is a wrong one. Never: one without a date.

use super::Wrong;
use everkept_core::{ModelName, Price, Prices};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// In dollars for a million tokens, as vendors write it. No model has cost a thousandth of this.
const MOST: f64 = 1e6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePrice {
    input: Spanned<f64>,
    output: Spanned<f64>,
    cache_read: Option<Spanned<f64>>,
    cache_write: Option<Spanned<f64>>,
    date: Spanned<String>,
}

pub fn check(prices: BTreeMap<Spanned<String>, FilePrice>) -> Result<Prices, Wrong> {
    let mut checked = Prices::new();
    for (name, price) in prices {
        let wrong = |refusal| (Some(name.span()), format!("prices: {refusal}"));
        let model = ModelName::new(name.get_ref().clone()).map_err(wrong)?;
        let price = price.check().map_err(|(span, problem)| (span, format!("prices.{model:?}.{problem}")))?;
        checked.insert(model, price);
    }
    Ok(checked)
}

impl FilePrice {
    fn check(self) -> Result<Price, Wrong> {
        let micros = |key: &str, dollars: Spanned<f64>| {
            let good = (0.0..=MOST).contains(dollars.get_ref());
            let problem = || (Some(dollars.span()), format!("{key}: must be dollars for a million tokens, 0 or more"));
            if good { Ok((dollars.get_ref() * 1e6).round() as u64) } else { Err(problem()) }
        };
        if everkept_api::time_of(self.date.get_ref()).is_none() || self.date.get_ref().len() != "2026-11-20".len() {
            return Err((Some(self.date.span()), "date: must be a day, as \"2026-11-20\"".into()));
        }
        Ok(Price {
            input: micros("input", self.input)?,
            output: micros("output", self.output)?,
            cache_read: self.cache_read.map(|price| micros("cache_read", price)).transpose()?,
            cache_write: self.cache_write.map(|price| micros("cache_write", price)).transpose()?,
            date: self.date.into_inner(),
        })
    }
}
