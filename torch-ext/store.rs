//! The key-value store over TCP through which ranks find each other.
//!
//! PyTorch's TCPStore: one rank serves, all connect. A call on a store may
//! block its connection for up to the store's timeout, so whoever must not be
//! kept waiting (heartbeats) takes a connection of its own.

use std::ffi::{CString, c_int};
use std::ptr;
use std::time::{Duration, Instant};

use crate::TorchError;
use crate::ffi::check;
use crate::ffi_c10d::{self as ffi, StorePtr};

/// A connection to the store, perhaps with a prefix before every key.
#[derive(Debug)]
pub struct Store {
    raw: StorePtr,
    host: String,
}

// SAFETY: the handle is owned, and c10d's stores lock around every call.
unsafe impl Send for Store {}
// SAFETY: as above; calls from several threads take turns.
unsafe impl Sync for Store {}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the shim and is freed once.
        unsafe { ffi::svgrl_store_free(self.raw) }
    }
}

fn c_string(call: &'static str, text: &str) -> Result<CString, TorchError> {
    CString::new(text)
        .map_err(|_| TorchError::argument(call, format!("{text:?} holds a zero byte")))
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Store {
    /// Connects to the store at `host:port`, after opening it there when
    /// `is_server`; `port` 0 lets the server choose (see [`Store::port`]).
    /// `timeout` bounds the connecting and every later `get`.
    ///
    /// # Errors
    /// When nobody serves there in time, or the port is taken.
    pub fn tcp(
        host: &str,
        port: u16,
        is_server: bool,
        timeout: Duration,
    ) -> Result<Self, TorchError> {
        let name = c_string("Store::tcp", host)?;
        let mut raw: StorePtr = ptr::null_mut();
        // SAFETY: a live C string, and room for one handle.
        let status = unsafe {
            ffi::svgrl_store_tcp(
                name.as_ptr(),
                port,
                c_int::from(is_server),
                millis(timeout),
                &mut raw,
            )
        };
        check("Store::tcp", status).map_err(|error| TorchError::Store {
            place: format!("{host}:{port}"),
            role: if is_server { "open" } else { "reach" },
            cause: error.to_string(),
        })?;
        Ok(Self {
            raw,
            host: host.to_owned(),
        })
    }

    /// The host that this store was connected by.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of a store made by [`Store::tcp`].
    ///
    /// # Errors
    /// For a store with a prefix.
    pub fn port(&self) -> Result<u16, TorchError> {
        let mut port = 0;
        // SAFETY: a live handle, and room for one number.
        check("Store::port", unsafe {
            ffi::svgrl_store_port(self.raw, &mut port)
        })?;
        Ok(port)
    }

    fn derived(&self, raw: StorePtr) -> Self {
        Self {
            raw,
            host: self.host.clone(),
        }
    }

    /// The same connection with `name/` before every key.
    ///
    /// # Errors
    /// When `name` holds a zero byte.
    pub fn prefix(&self, name: &str) -> Result<Self, TorchError> {
        let name = c_string("Store::prefix", name)?;
        let mut raw: StorePtr = ptr::null_mut();
        // SAFETY: a live handle and C string, and room for one handle.
        check("Store::prefix", unsafe {
            ffi::svgrl_store_prefix(self.raw, name.as_ptr(), &mut raw)
        })?;
        Ok(self.derived(raw))
    }

    /// The same keys over a connection of its own.
    ///
    /// # Errors
    /// When the server no longer answers.
    pub fn reconnect(&self) -> Result<Self, TorchError> {
        let mut raw: StorePtr = ptr::null_mut();
        // SAFETY: a live handle, and room for one handle.
        check("Store::reconnect", unsafe {
            ffi::svgrl_store_reconnect(self.raw, &mut raw)
        })?;
        Ok(self.derived(raw))
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// When the server no longer answers.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TorchError> {
        let key = c_string("Store::set", key)?;
        // SAFETY: a live handle, C string and slice.
        check("Store::set", unsafe {
            ffi::svgrl_store_set(self.raw, key.as_ptr(), value.as_ptr(), value.len())
        })
    }

    /// The value of `key`, waiting for it to be set.
    ///
    /// # Errors
    /// When it is not set within the store's timeout.
    pub fn get(&self, key: &str) -> Result<Vec<u8>, TorchError> {
        let key = c_string("Store::get", key)?;
        let mut data = ptr::null();
        let mut size = 0;
        // SAFETY: a live handle and C string, room for pointer and length.
        check("Store::get", unsafe {
            ffi::svgrl_store_get(self.raw, key.as_ptr(), &mut data, &mut size)
        })?;
        if size == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the shim's thread-local buffer of `size` bytes, copied before
        // any other call on this thread.
        Ok(unsafe { std::slice::from_raw_parts(data, size) }.to_vec())
    }

    /// Whether `key` is set.
    ///
    /// # Errors
    /// When the server no longer answers.
    pub fn is_set(&self, key: &str) -> Result<bool, TorchError> {
        let key = c_string("Store::is_set", key)?;
        let mut present = 0;
        // SAFETY: a live handle and C string, room for one flag.
        check("Store::is_set", unsafe {
            ffi::svgrl_store_check(self.raw, key.as_ptr(), &mut present)
        })?;
        Ok(present != 0)
    }

    /// Waits until all keys are set, polling so that other users of this
    /// connection get their turn; the keys that are still missing after
    /// `timeout`, none when all came.
    ///
    /// # Errors
    /// When the server no longer answers.
    pub fn wait(&self, keys: &[String], timeout: Duration) -> Result<Vec<String>, TorchError> {
        let end = Instant::now() + timeout;
        let mut missing = keys.to_vec();
        loop {
            let mut later = Vec::new();
            for key in missing {
                if !self.is_set(&key)? {
                    later.push(key);
                }
            }
            missing = later;
            if missing.is_empty() || Instant::now() >= end {
                return Ok(missing);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Adds `amount` to the counter `key`, 0 before its first use; the new value.
    ///
    /// # Errors
    /// When the server no longer answers.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, TorchError> {
        let key = c_string("Store::add", key)?;
        let mut sum = 0;
        // SAFETY: a live handle and C string, room for one number.
        check("Store::add", unsafe {
            ffi::svgrl_store_add(self.raw, key.as_ptr(), amount, &mut sum)
        })?;
        Ok(sum)
    }

    pub(crate) fn raw(&self) -> StorePtr {
        self.raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn prefixes_keep_keys_apart_and_connections_share_them() {
        let store = Store::tcp("127.0.0.1", 0, true, 5 * SECOND).unwrap();
        let client = Store::tcp("127.0.0.1", store.port().unwrap(), false, 5 * SECOND).unwrap();
        let a = store.prefix("a").unwrap();
        a.set("key", b"one").unwrap();
        assert!(!store.is_set("key").unwrap());
        assert_eq!(client.prefix("a").unwrap().get("key").unwrap(), b"one");
        assert_eq!(a.reconnect().unwrap().get("key").unwrap(), b"one");
        assert_eq!(client.add("count", 2).unwrap(), 2);
        assert_eq!(store.add("count", 3).unwrap(), 5);
        let keys = ["key", "absent"].map(String::from);
        assert_eq!(a.wait(&keys, SECOND / 10).unwrap(), ["absent"]);
    }

    #[test]
    fn a_store_that_nobody_opened_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let error = Store::tcp("127.0.0.1", port, false, SECOND).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    }
}
