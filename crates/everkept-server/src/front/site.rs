//! Where this server is: the hosts it answers to and the origins its pages have.
//!
//! Never answers under a name that is not its own (a name that was bent to point here is not), and never a page of
//! another site.

use crate::failed::Failed;
use axum::http::{HeaderMap, Request, Uri, header};
use everkept_api::ErrorCode;
use std::io;

#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// `127.0.0.1:PORT` and its like.
    local: Vec<String>,
    /// `http` or `https`, as our own listener speaks.
    scheme: &'static str,
    public: Option<Public>,
    origin: String,
}

#[derive(Debug, Clone)]
struct Public {
    /// With and without the scheme's own port.
    hosts: Vec<String>,
    origin: String,
    https: bool,
}

impl Site {
    pub fn new(port: u16, tls: bool, public_url: Option<&str>) -> io::Result<Self> {
        let scheme = if tls { "https" } else { "http" };
        let names = ["127.0.0.1", "localhost", "[::1]"];
        let local = names.iter().flat_map(|name| hosts(name, port, scheme)).collect();
        let public = public_url.map(Public::read).transpose()?;
        let origin = public.as_ref().map_or_else(|| format!("{scheme}://127.0.0.1:{port}"), |public| public.origin.clone());
        Ok(Site { local, scheme, public, origin })
    }

    /// Where browsers reach us.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether browsers reach us over TLS, here or at a proxy.
    pub fn is_secure(&self) -> bool {
        self.scheme == "https" || self.is_public_https()
    }

    pub fn is_public_https(&self) -> bool {
        self.public.as_ref().is_some_and(|public| public.https)
    }

    pub fn check_host<B>(&self, request: &Request<B>) -> Result<(), Failed> {
        let refused = || Failed::new(ErrorCode::HostRefused, "the Host is not this server's");
        let uri = request.uri();
        if uri.authority().is_some() || uri.scheme().is_some() {
            return Err(Failed::new(ErrorCode::HostRefused, "the request's target must be a path"));
        }
        let host = only(request.headers(), header::HOST).map_err(|()| refused())?.ok_or_else(refused)?;
        let host = host.to_ascii_lowercase();
        let public = self.public.as_ref().is_some_and(|public| public.hosts.contains(&host));
        if self.local.contains(&host) || public { Ok(()) } else { Err(refused()) }
    }

    /// Comes after the host was found good.
    pub fn check_origin<B>(&self, request: &Request<B>) -> Result<(), Failed> {
        let refused = || Failed::new(ErrorCode::OriginRefused, "pages of other sites may not use this server");
        let headers = request.headers();
        if let Some(origin) = only(headers, header::ORIGIN).map_err(|()| refused())? {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
            let own = self.local.contains(&host) && *origin == format!("{}://{host}", self.scheme);
            let public = self.public.as_ref().is_some_and(|public| public.origin == origin);
            if !own && !public {
                return Err(refused());
            }
        }
        for site in headers.get_all("sec-fetch-site") {
            if site != "same-origin" && site != "none" {
                return Err(refused());
            }
        }
        Ok(())
    }
}

impl Public {
    fn read(url: &str) -> io::Result<Public> {
        let wrong = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the public URL {url:?} must be https://HOST or http://HOST, without a path"),
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(wrong)?;
        let default = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(wrong()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let name = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(default);
        let origin = if port == default { format!("{scheme}://{name}") } else { format!("{scheme}://{name}:{port}") };
        let scheme = if default == 443 { "https" } else { "http" };
        Ok(Public { hosts: hosts(&name, port, scheme), origin, https: default == 443 })
    }
}

/// `name:port`, and the name alone where the port goes without saying.
fn hosts(name: &str, port: u16, scheme: &str) -> Vec<String> {
    let mut hosts = vec![format!("{name}:{port}")];
    if (scheme, port) == ("http", 80) || (scheme, port) == ("https", 443) {
        hosts.push(name.to_owned());
    }
    hosts
}

/// A header that may come once at most.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match values.next() {
        Some(_) => Err(()),
        None => value.to_str().map(Some).map_err(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(site: &Site, uri: &str, headers: &[(&str, &str)]) -> Result<(), u16> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let status = |failed: Failed| failed.0.error.code.status();
        site.check_host(&request).map_err(status)?;
        site.check_origin(&request).map_err(status)
    }

    #[test]
    fn only_our_own_hosts_are_answered() {
        let site = Site::new(7070, false, Some("https://kept.example")).unwrap();
        for host in ["127.0.0.1:7070", "localhost:7070", "LOCALHOST:7070", "[::1]:7070", "kept.example", "kept.example:443"] {
            assert_eq!(check(&site, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["127.0.0.1", "localhost", "127.0.0.1:7071", "127.0.0.2:7070", "evil.example:7070", "kept.example.evil", "kept.example:80", ""]
        {
            assert_eq!(check(&site, "/", &[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(check(&site, "/", &[]), Err(421));
        assert_eq!(check(&site, "/", &[("host", "localhost:7070"), ("host", "localhost:7070")]), Err(421));
        assert_eq!(check(&site, "http://localhost:7070/", &[("host", "localhost:7070")]), Err(421));
    }

    #[test]
    fn only_our_own_pages_may_ask() {
        let site = Site::new(7070, false, Some("https://kept.example")).unwrap();
        let from = |host, origin| check(&site, "/", &[("host", host), ("origin", origin)]);
        assert_eq!(from("localhost:7070", "http://localhost:7070"), Ok(()));
        assert_eq!(from("kept.example", "https://kept.example"), Ok(()));
        assert_eq!(from("127.0.0.1:7070", "https://kept.example"), Ok(()), "a proxy may rewrite the host");
        for origin in ["http://127.0.0.1:7070", "https://localhost:7070", "http://localhost:7071", "null", "", "http://kept.example"] {
            assert_eq!(from("localhost:7070", origin), Err(403), "{origin}");
        }
        for (site_is, good) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false), ("x", false)] {
            assert_eq!(check(&site, "/", &[("host", "localhost:7070"), ("sec-fetch-site", site_is)]).is_ok(), good, "{site_is}");
        }
    }

    #[test]
    fn a_public_url_is_a_bare_origin() {
        for url in ["kept.example", "ftp://kept.example", "https://kept.example/path", "https://user@kept.example", "https://"] {
            assert!(Site::new(1, false, Some(url)).is_err(), "{url}");
        }
        assert!(Site::new(1, false, Some("https://kept.example/")).unwrap().is_secure());
        assert!(!Site::new(1, false, Some("http://kept.example:8080")).unwrap().is_secure());
        assert!(Site::new(1, true, None).unwrap().is_secure());
    }
}
