//! A route: path, method, required scope, and handler.

use std::fs::File;

use crate::api::doc::Doc;
use crate::app::App;
use crate::ingest::Endpoint;
use crate::rights::Scope;
use crate::web::{Captures, Method, Request, Response, WebError};

/// Receives a request with its body in memory, and the captured path segments.
pub(crate) type PlainHandler = fn(&App, &Request, &Captures) -> Result<Response, WebError>;

/// Receives a request whose body is in a file, positioned at the start.
pub(crate) type UploadHandler = fn(&App, &Request, &Captures, File) -> Result<Response, WebError>;

#[derive(Clone, Copy, Debug)]
pub enum Handler {
    /// Streams its body: the collector.
    Submit(Endpoint),
    /// Receives a body of any size in a file.
    Upload(UploadHandler),
    Plain(PlainHandler),
}

/// Who uses a route, which decides the form of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Errors are pages. Without a token, the login form is shown.
    People,
    /// Errors are JSON.
    Programs,
}

#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// Segments between slashes. `{name}` captures any one segment, `{name:symbol}` one that is the id of a
    /// program or debug file.
    pub path: &'static str,
    /// The scope that the caller needs; `None` if everybody may use the route.
    pub needs: Option<Scope>,
    /// True if a request counts against the caller's requests per minute.
    pub(crate) is_paced: bool,
    /// True if the route can change stored data.
    pub changes: bool,
    /// True if pages of the origins in http.cors_origins may use the route.
    pub(crate) is_shared: bool,
    pub audience: Audience,
    /// True if a client of this protocol sends its token as the parameter `key`.
    pub(crate) has_key_in_query: bool,
    /// The description for the API; `None` if the route is not part of it.
    pub(crate) doc: Option<&'static Doc>,
    pub handler: Handler,
}

impl Route {
    /// True if the collector's own port also has the route: those that accept reports, and those that report
    /// health.
    pub(crate) fn is_for_collector(&self) -> bool {
        matches!(self.handler, Handler::Submit(_)) || self.path.starts_with("/__")
    }

    /// Tools and browsers send these requests often, and they cost little.
    pub(super) const fn free(mut self) -> Self {
        self.is_paced = false;
        self
    }

    pub(super) const fn programs(mut self) -> Self {
        self.audience = Audience::Programs;
        self
    }

    pub(super) const fn key_in_query(mut self) -> Self {
        self.has_key_in_query = true;
        self
    }

    pub(super) const fn doc(mut self, doc: &'static Doc) -> Self {
        self.doc = Some(doc);
        self
    }

    /// Pages of other sites may use the route, if the configuration names them.
    pub(super) const fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// The route only reads: the answer depends on the body or on stored data.
    pub(super) const fn reads(mut self) -> Self {
        self.changes = false;
        self
    }
}
