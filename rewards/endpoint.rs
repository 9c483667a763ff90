//! Addresses of services elsewhere.

/// Whether an address can be called at all.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| endpoint.strip_prefix(scheme));
    match host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        true => Ok(()),
        false => Err(format!(
            "endpoint: must be the address of a scoring service such as http://127.0.0.1:8700, got {endpoint:?}"
        )),
    }
}
