//! The pages: one document for all of them, and the scripts that draw them out of the API.
//!
//! Never a session's text in the document: it is the same for everybody who may see it, whatever the address names.

mod asset;

use crate::{app::App, failed::Failed};
use asset::{ASSETS, Asset, page};
use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;

/// The pages; which one it is, the script reads off the address.
const PAGES: &[&str] = &["/", "/chat", "/waiting", "/ops", "/sessions/{ses}"];
/// Files that have their address from elsewhere: a worker's reach is its folder, and icons are asked for by name.
const ROOT: &[&str] = &["/sw.js", "/manifest.webmanifest", "/icon.svg", "/icon-192.png", "/icon-512.png"];
const ASSET: &str = "/assets/{version}/{*file}";

pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    PAGES.iter().chain(ROOT).chain([&ASSET]).copied()
}

pub(crate) fn routes() -> Router<Arc<App>> {
    let pages = PAGES.iter().fold(Router::new(), |router, path| router.route(path, get(document)));
    let files = ROOT.iter().fold(pages, |router, path| router.route(path, get(move |headers| file(headers, &path[1..]))));
    files.route(ASSET, get(versioned))
}

async fn document() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page()).into_response()
}

async fn file(headers: HeaderMap, name: &str) -> Result<Response, Failed> {
    let asset = ASSETS.get(name).ok_or_else(Failed::not_found)?;
    Ok(send(asset, &headers))
}

/// What an address names never changes, as the address has the version of all files in it.
async fn versioned(headers: HeaderMap, Path((version, name)): Path<(String, String)>) -> Result<Response, Failed> {
    let mut response = file(headers, &name).await?;
    if version == asset::version() {
        let forever = HeaderValue::from_static("private, max-age=31536000, immutable");
        response.headers_mut().insert(header::CACHE_CONTROL, forever);
    }
    Ok(response)
}

fn send(asset: &Asset, headers: &HeaderMap) -> Response {
    let kind = (header::CONTENT_TYPE, asset.media_type);
    let vary = (header::VARY, "accept-encoding");
    match takes_gzip(headers) {
        true => ([kind, vary, (header::CONTENT_ENCODING, "gzip")], asset.zipped.clone()).into_response(),
        false => ([kind, vary], asset.bytes).into_response(),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let takes = |value: &'static str| takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]));
        for good in ["gzip", "br, gzip;q=0.8", "GZIP"] {
            assert!(takes(good), "{good}");
        }
        for bad in ["", "br", "gzip;q=0", "gzip; q=0.0", "x-gzip"] {
            assert!(!takes(bad), "{bad}");
        }
    }
}
