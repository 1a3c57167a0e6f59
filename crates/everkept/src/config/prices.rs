//! `[prices."provider/model"]`: what a model costs, for agents that do not say it. What is stated there goes before what
//! is known here.
//!
//! Known are the prices that the vendors' own pages give for standard requests, as of [`KNOWN_ON`]; not those that depend on
//! what nobody tells us. Never: a price without a date.

use super::Wrong;
use everkept_core::{ModelName, Price, Prices};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The day of the prices that are built in.
const KNOWN_ON: &str = "2026-10-13";
/// OpenAI asks more for longer prompts.
const LONG_PROMPT: u64 = 272_000;

/// Dollars for a million tokens: model, what goes in, what comes out, what is read from a cache and written to one (for
/// five minutes).
type Known = (&'static str, f64, f64, f64, f64);

/// <https://platform.claude.com/docs/en/about-claude/pricing>
const ANTHROPIC: &[Known] = &[
    ("claude-opus-5-5", 4.0, 20.0, 0.2, 5.0),
    ("claude-opus-5", 5.0, 25.0, 0.5, 6.25),
    ("claude-sonnet-5-5", 2.0, 10.0, 0.2, 2.5),
    ("claude-sonnet-5", 2.0, 10.0, 0.2, 2.5),
    ("claude-haiku-4-5", 1.0, 5.0, 0.1, 1.25),
    ("claude-haiku-4-5-20251001", 1.0, 5.0, 0.1, 1.25),
];
/// <https://developers.openai.com/api/docs/pricing>
const OPENAI: &[Known] =
    &[("gpt-6-astra", 10.0, 50.0, 1.0, 12.5), ("gpt-6.1-sol", 2.0, 10.0, 0.1, 2.5), ("gpt-6-sol", 2.0, 10.0, 0.2, 2.5)];

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

/// What is stated, and what is known of models of which nothing is stated under any provider.
pub fn beside_known(stated: Prices) -> Prices {
    let bare = |model: &ModelName| model.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let all = ANTHROPIC.iter().map(|known| price("anthropic", known, None));
    let all = all.chain(OPENAI.iter().map(|known| price("openai", known, Some(LONG_PROMPT))));
    let mut prices: Prices = all.filter(|(known, _)| !stated.keys().any(|model| bare(model) == bare(known))).collect();
    prices.extend(stated);
    prices
}

fn price(vendor: &str, known: &Known, up_to: Option<u64>) -> (ModelName, Price) {
    let (model, input, output, cache_read, cache_write) = *known;
    let model = ModelName::new(format!("{vendor}/{model}")).expect("it is a good name");
    let price = Price {
        input: in_micros(input),
        output: in_micros(output),
        cache_read: Some(in_micros(cache_read)),
        cache_write: Some(in_micros(cache_write)),
        up_to,
        date: KNOWN_ON.to_owned(),
    };
    (model, price)
}

fn in_micros(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

impl FilePrice {
    fn check(self) -> Result<Price, Wrong> {
        let micros = |key: &str, dollars: Spanned<f64>| {
            let good = (0.0..=MOST).contains(dollars.get_ref());
            let problem = || (Some(dollars.span()), format!("{key}: must be dollars for a million tokens, 0 or more"));
            if good { Ok(in_micros(*dollars.get_ref())) } else { Err(problem()) }
        };
        if everkept_api::time_of(self.date.get_ref()).is_none() || self.date.get_ref().len() != "2026-11-20".len() {
            return Err((Some(self.date.span()), "date: must be a day, as \"2026-11-20\"".into()));
        }
        Ok(Price {
            input: micros("input", self.input)?,
            output: micros("output", self.output)?,
            cache_read: self.cache_read.map(|price| micros("cache_read", price)).transpose()?,
            cache_write: self.cache_write.map(|price| micros("cache_write", price)).transpose()?,
            up_to: None,
            date: self.date.into_inner(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everkept_core::Usage;

    #[test]
    fn a_known_price_is_dated_and_what_is_stated_goes_before_it_under_whatever_provider() {
        let used = Usage { input_tokens: Some(1_000_000), output_tokens: Some(100_000), ..Usage::default() };
        let reckoned = |model: &str, prices: &Prices| {
            let mut usage = used.clone();
            usage.reckon(Some(&ModelName::new(model).unwrap()), prices);
            (usage.cost_usd_micros, usage.priced_on)
        };
        let known = beside_known(Prices::new());
        assert_eq!(reckoned("claude-opus-5", &known), (Some(7_500_000), Some(KNOWN_ON.to_owned())));
        assert_eq!(reckoned("openai/gpt-6-sol", &known), (None, None), "so much may have been one long prompt, which costs more");
        assert_eq!(reckoned("claude-opus-4", &known), (None, None));
        let stated = Price { input: 1, output: 10, cache_read: None, cache_write: None, up_to: None, date: "2026-11-20".into() };
        let own = beside_known(Prices::from([(ModelName::new("zoo/claude-opus-5").unwrap(), stated)]));
        assert_eq!(reckoned("claude-opus-5", &own), (Some(2), Some("2026-11-20".to_owned())));
        assert_eq!(own.len(), known.len());
    }
}
