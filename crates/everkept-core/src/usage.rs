//! What a turn cost: as its agent reported it, or reckoned from prices that are dated.
//!
//! Never: a figure that nobody gave. One that is not known is absent, not zero.

use crate::ModelName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most that one figure of one turn counts for, so that no sum of them overflows.
const MOST: u64 = 1_000_000_000_000;

/// Tokens and money. The kinds of tokens do not overlap, but for reasoning, which is part of the output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Neither read from a cache nor written to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// In millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd_micros: Option<u64>,
    /// The date of the prices that the cost, or part of it, was reckoned from; absent where the agent reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priced_on: Option<String>,
    /// The agent's own id of what it counted here. It counts once in a session, whatever turn it comes with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Each model's part, where the agent tells them apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<ModelName, Usage>,
}

/// What a model costs, in millionths of a US dollar for a million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    /// Without one, what was read from a cache has no known price.
    pub cache_read: Option<u64>,
    pub cache_write: Option<u64>,
    /// A longer prompt has another price, which is not known: nor is then what a turn cost that took in more than this.
    pub up_to: Option<u64>,
    /// The day it was the price, as `2026-11-20`.
    pub date: String,
}

/// By the model's full name. An agent may leave the provider out.
pub type Prices = BTreeMap<ModelName, Price>;

impl Usage {
    /// Adds what another turn cost.
    pub fn add(&mut self, other: &Usage) {
        for (into, more) in self.figures_mut().into_iter().zip(other.figures()) {
            if let Some(more) = more {
                *into = Some(into.unwrap_or(0).saturating_add(more));
            }
        }
        self.priced_on = self.priced_on.take().max(other.priced_on.clone());
    }

    /// In the order of the fields.
    pub fn figures(&self) -> [Option<u64>; 6] {
        let Usage { input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd_micros, .. } = self;
        [*input_tokens, *output_tokens, *reasoning_tokens, *cache_read_tokens, *cache_write_tokens, *cost_usd_micros]
    }

    pub fn from_figures(figures: [Option<u64>; 6]) -> Self {
        let mut usage = Usage::default();
        for (into, figure) in usage.figures_mut().into_iter().zip(figures) {
            *into = figure;
        }
        usage
    }

    fn figures_mut(&mut self) -> [&mut Option<u64>; 6] {
        [
            &mut self.input_tokens,
            &mut self.output_tokens,
            &mut self.reasoning_tokens,
            &mut self.cache_read_tokens,
            &mut self.cache_write_tokens,
            &mut self.cost_usd_micros,
        ]
    }

    /// Gives a cost to what the agent gave none, where the model has a price. The whole has one when each part has.
    pub fn reckon(&mut self, model: Option<&ModelName>, prices: &Prices) {
        // One that is alone is the one that was asked for, under a longer name.
        let other = model.filter(|_| self.models.len() == 1);
        for (model, part) in &mut self.models {
            [Some(model), other].into_iter().flatten().for_each(|model| part.reckon_as(model, prices));
        }
        if self.cost_usd_micros.is_some() {
            return;
        }
        if self.models.is_empty() {
            if let Some(model) = model {
                self.reckon_as(model, prices);
            }
            return;
        }
        let costs = self.models.values().map(|part| part.cost_usd_micros);
        self.cost_usd_micros = costs.sum();
        self.priced_on = self.cost_usd_micros.and_then(|_| self.models.values().filter_map(|part| part.priced_on.clone()).max());
    }

    fn reckon_as(&mut self, model: &ModelName, prices: &Prices) {
        let bare = |full: &ModelName| full.as_str().split_once('/').is_some_and(|(_, name)| name == model.as_str());
        let price = prices.get(model).or_else(|| prices.iter().find(|(full, _)| bare(full)).map(|(_, price)| price));
        if let (None, Some(price)) = (self.cost_usd_micros, price) {
            self.cost_usd_micros = price.of(self);
            self.priced_on = self.cost_usd_micros.map(|_| price.date.clone());
        }
    }

    /// What stands in a list for a turn that named `model`: a row for each model, each figure bounded.
    pub fn rows(&self, model: Option<&ModelName>) -> Vec<(Option<ModelName>, Usage)> {
        let row = |usage: &Usage| Usage {
            priced_on: usage.priced_on.clone(),
            ..Usage::from_figures(usage.figures().map(|figure| figure.map(|figure| figure.min(MOST))))
        };
        match self.models.is_empty() {
            true => vec![(model.cloned(), row(self))],
            false => self.models.iter().map(|(model, part)| (Some(model.clone()), row(part))).collect(),
        }
    }
}

impl Price {
    /// None where something was used that has no price, or nothing is known of what was used.
    fn of(&self, usage: &Usage) -> Option<u64> {
        if usage.input_tokens.is_none() && usage.output_tokens.is_none() {
            return None;
        }
        let took_in = [usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens];
        let took_in = took_in.into_iter().flatten().fold(0, u64::saturating_add);
        if self.up_to.is_some_and(|up_to| took_in > up_to) {
            return None;
        }
        let cost = |tokens: Option<u64>, price: Option<u64>| match tokens {
            None | Some(0) => Some(0),
            Some(tokens) => Some(u128::from(tokens) * u128::from(price?)),
        };
        let all = cost(usage.input_tokens, Some(self.input))?
            + cost(usage.output_tokens, Some(self.output))?
            + cost(usage.cache_read_tokens, self.cache_read)?
            + cost(usage.cache_write_tokens, self.cache_write)?;
        Some(u64::try_from((all + 500_000) / 1_000_000).unwrap_or(u64::MAX))
    }
}
