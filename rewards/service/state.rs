//! What all requests of a service share.

use super::ServiceConfig;
use super::admission::Admission;
use super::metrics::ServiceMetrics;
use super::parse::Images;
use super::tasks::Tasks;
use super::token::Token;
use crate::scoring::Scorer;

/// What all requests share.
pub(crate) struct ServiceState {
    pub scorer: Scorer,
    pub config: ServiceConfig,
    pub tasks: Tasks,
    pub images: Images,
    pub token: Option<Token>,
    pub admission: Admission,
    pub metrics: ServiceMetrics,
}
