//! How scoring runs: the top-level `rewards` section.

use crate::endpoint::{check_address, check_endpoint};
use crate::remote::RemoteConfig;
use crate::service::ServiceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How scoring runs (`rewards`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewardsConfig {
    /// Address of a scoring service (`svgrl serve-rewards`, started with this config), such as `http://host:8700`; absent: this process scores itself.
    pub endpoint: Option<String>,
    /// Addresses of several such services, in place of `endpoint`: work goes to all of them, and what one does not answer is
    /// sent to another.
    pub endpoints: Vec<String>,
    /// How the services are called.
    pub remote: RemoteConfig,
    /// What a scoring service started from this config takes in.
    pub service: ServiceConfig,
    /// Scoring threads; 0 means one per processor core. As many more wait for SVGs that only a worker process may draw, and as many again for those that it does not draw in a quarter of a second.
    pub workers: usize,
    /// Milliseconds, at least 1, that one SVG may take in a worker process before it counts as unrenderable.
    pub deadline_ms: u64,
    /// References whose renderings are kept, at least 1; the least recently used leaves first.
    pub reference_cache: usize,
    /// Training steps that are looked back on: a run stops when of their completions `unscored_share` or more could not
    /// be scored, because a judge, an encoder or a service failed; 0: it never stops for that.
    pub unscored_steps: usize,
    /// That share, above 0 and at most 1.
    pub unscored_share: f64,
}

impl Default for RewardsConfig {
    fn default() -> Self {
        RewardsConfig {
            endpoint: None,
            endpoints: Vec::new(),
            remote: RemoteConfig::default(),
            service: ServiceConfig::default(),
            workers: 0,
            deadline_ms: 2000,
            reference_cache: 512,
            unscored_steps: 5,
            unscored_share: 0.5,
        }
    }
}

impl RewardsConfig {
    /// The addresses of the services that score; none where this process does.
    pub fn services(&self) -> Vec<&str> {
        let all = self.endpoint.iter().chain(&self.endpoints);
        all.map(String::as_str).collect()
    }

    /// The first value out of bounds, as `key: rule, got value`.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint)?;
        }
        for (at, endpoint) in self.endpoints.iter().enumerate() {
            check_address("endpoints", endpoint)?;
            if self.endpoints[..at].contains(endpoint) {
                return Err(format!("endpoints: {endpoint} stands there twice"));
            }
        }
        if self.endpoint.is_some() && !self.endpoints.is_empty() {
            return Err(
                "endpoints: must hold all services when it is there; leave `endpoint` out".into(),
            );
        }
        self.remote.validate().map_err(|e| format!("remote.{e}"))?;
        self.service
            .validate()
            .map_err(|e| format!("service.{e}"))?;
        if self.deadline_ms == 0 {
            return Err("deadline_ms: must be >= 1, got 0".into());
        }
        if self.reference_cache == 0 {
            return Err("reference_cache: must be >= 1, got 0".into());
        }
        if !(self.unscored_share > 0.0 && self.unscored_share <= 1.0) {
            return Err(format!(
                "unscored_share: must be above 0 and at most 1, got {}",
                self.unscored_share
            ));
        }
        Ok(())
    }
}
