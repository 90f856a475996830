//! Detects requests from pages of other sites that would change something.

use crate::addresses::PublicUrl;
use crate::web::Request;

/// Why a request counts as one from another site; `None` if it does not. Browsers send the origin of a form
/// in `Sec-Fetch-Site` (only on https and on the local machine), and in `Origin` or `Referer`. Programs send
/// none of these, and have no cookie that another site could use.
pub(crate) fn foreign(request: &Request, public_url: &PublicUrl) -> Option<String> {
    if let Some(site) = request.header("sec-fetch-site") {
        // `none`: the user typed the URL or used a bookmark.
        let is_ours = matches!(site, "same-origin" | "none");
        return (!is_ours).then(|| format!("Sec-Fetch-Site is {site:?}"));
    }
    let (header, origin) = match (request.header("origin"), request.header("referer")) {
        (Some(origin), _) => ("Origin", origin),
        (None, Some(referer)) => ("Referer", referer),
        (None, None) => return None,
    };
    let ours = [request.host(), Some(public_url.host())];
    let host = host_of(origin);
    let is_ours = host.is_some_and(|host| {
        let mut ours = ours.iter().flatten();
        ours.any(|ours| !ours.is_empty() && ours.eq_ignore_ascii_case(host))
    });
    (!is_ours).then(|| {
        let host = request.host().unwrap_or_default();
        format!(
            "{header} is {origin:?}, but the Host of this server is {host:?}; if both are the same site, set [http] public_url, or let the proxy pass the Host header"
        )
    })
}

fn host_of(origin: &str) -> Option<&str> {
    let (_, rest) = origin.split_once("://")?;
    rest.split(['/', '?', '#']).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::request;

    #[test]
    fn a_form_is_ours_by_sec_fetch_site_or_else_by_origin_or_referer() {
        let check = |public_url: &str, headers: &[(&str, &str)], is_ours: bool| {
            let public_url = public_url.parse().expect("a url");
            let foreign = foreign(&request(headers), &public_url);
            assert_eq!(
                foreign.is_none(),
                is_ours,
                "{public_url:?} {headers:?}: {foreign:?}"
            );
        };
        let host = ("host", "localhost:8000");
        check("", &[host], true);
        check("", &[host, ("origin", "http://localhost:8000")], true);
        check("", &[host, ("origin", "http://evil.example")], false);
        check("", &[host, ("origin", "null")], false);
        check(
            "",
            &[host, ("referer", "http://localhost:8000/login/?a=b")],
            true,
        );
        check(
            "",
            &[host, ("referer", "http://evil.example/localhost:8000")],
            false,
        );
        // Browsers send this for a form on a page that hides its URL.
        check(
            "",
            &[host, ("origin", "null"), ("sec-fetch-site", "same-origin")],
            true,
        );
        check("", &[host, ("sec-fetch-site", "cross-site")], false);
        check("", &[host, ("sec-fetch-site", "same-site")], false);
        check("", &[host, ("sec-fetch-site", "none")], true);
        // Behind a proxy that does not pass on the Host header.
        let site = "https://crashes.example.org";
        check(site, &[host, ("origin", site)], true);
        check(
            "https://crashes.example.org/base",
            &[host, ("origin", site)],
            true,
        );
        check("", &[host, ("origin", site)], false);
        check(
            site,
            &[host, ("origin", "https://crashes.example.org.evil")],
            false,
        );
    }
}
