//! Addresses of services elsewhere.

/// Whether an address can be called at all.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), String> {
    check_address("endpoint", endpoint)
}

/// The same of the address under another key.
pub(crate) fn check_address(key: &str, address: &str) -> Result<(), String> {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| address.strip_prefix(scheme));
    match host.is_some_and(|host| !host.is_empty() && !host.starts_with('/')) {
        true => Ok(()),
        false => Err(format!(
            "{key}: must be the address of a scoring service such as http://127.0.0.1:8700, got {address:?}"
        )),
    }
}
