//! The HTTP status of each error of a module, and what the reader of the error can do.

use crate::access::accounts::AccountError;
use crate::index::IndexError;
use crate::query::QueryError;
use crate::store::StoreError;
use crate::web::WebError;

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request failed because of a store error");
        let status = match error {
            StoreError::Damaged(_) | StoreError::Newer(_) | StoreError::Corrupt(_) => 500,
            StoreError::Unavailable(_) | StoreError::Stopping => 503,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryError> for WebError {
    fn from(error: QueryError) -> Self {
        let accepted = error.accepted.map(|text| format!("accepted: {text}"));
        let nearest = error.nearest.map(|name| format!("did you mean {name}?"));
        let hints: Vec<String> = nearest.into_iter().chain(accepted).collect();
        Self {
            value: error.value.map(String::into),
            hint: (!hints.is_empty()).then(|| hints.join(" ").into()),
            ..Self::bad(&error.field, error.message)
        }
    }
}

/// Roughly the time until large searches finish, or until an index has begun to build.
const RETRY_AFTER_SECONDS: u64 = 5;

impl From<IndexError> for WebError {
    fn from(error: IndexError) -> Self {
        if let IndexError::TooComplex | IndexError::TimedOut = error {
            return Self::new(400, error.to_string());
        }
        if let IndexError::Unbuilt(_) | IndexError::Busy = error {
            return Self::new(503, error.to_string())
                .with("retry-after", RETRY_AFTER_SECONDS.to_string());
        }
        tracing::error!(%error, "a search failed");
        Self::new(
            503,
            format!("the search index is currently not available: {error}"),
        )
    }
}

impl From<AccountError> for WebError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Bad(field, why) => Self::bad(field, why),
            AccountError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_is_cut_off_is_told_in_socorros_words() {
        fn check(error: IndexError, start: &str) {
            let error = WebError::from(error);
            assert_eq!(error.status, 400);
            assert!(error.message.starts_with(start), "{}", error.message);
        }
        check(IndexError::TimedOut, "Search query timed out. ");
        check(
            IndexError::TooComplex,
            "Search query is too complex to execute. Simplify the search pattern and try again.",
        );
    }

    #[test]
    fn a_search_that_can_be_made_later_is_told_when() {
        fn check(error: IndexError, word: &str) {
            let error = WebError::from(error);
            assert_eq!(error.status, 503);
            assert!(error.message.contains(word), "{}", error.message);
            let later = ("retry-after", RETRY_AFTER_SECONDS.to_string());
            assert_eq!(error.headers, [later]);
        }
        check(IndexError::Busy, "1024 MiB");
        check(IndexError::Unbuilt(vec!["gpu_level".into()]), "gpu_level");
    }
}
