//! A browser without a window: follows redirects, keeps cookies, reads forms, presses buttons. No scripts, because our
//! pages need none.
//!
//! In: URLs, and what a person would type and press. Out: pages. `demo` and tests walk through the real login, consent
//! and bind pages with it.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::stage::Login;

/// More redirects in a row are a loop.
const MAX_REDIRECTS: usize = 20;

/// A browser with its cookies. Like real ones it sends a host's cookies to all its ports.
pub struct Browser {
    http: reqwest::Client,
    cookies: HashMap<String, HashMap<String, String>>,
}

/// A page that was loaded.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is from.
    pub url: Url,
    /// HTTP status.
    pub status: u16,
    /// Its source.
    pub html: String,
}

/// A form of a page: where it goes and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// `get` or `post`.
    pub method: String,
    /// Relative to the page.
    pub action: String,
    /// Names and values, as they would be sent.
    pub fields: Vec<(String, String)>,
    /// Text, name and value of each button.
    pub buttons: Vec<(String, Option<(String, String)>)>,
}

impl Browser {
    /// A browser without cookies. It speaks plain HTTP only: everything that it is for is on loopback.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new() -> Result<Self> {
        let http = reqwest::Client::builder().redirect(Policy::none()).tls_certs_only([]).build()?;
        Ok(Self { http, cookies: HashMap::new() })
    }

    /// Opens a URL.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn open(&mut self, url: &str) -> Result<Page> {
        let url = Url::parse(url).with_context(|| format!("{url:?} is not a URL"))?;
        self.load(self.http.get(url.clone()), url).await
    }

    /// Follows a link of a page.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn follow(&mut self, page: &Page, href: &str) -> Result<Page> {
        let url = page.url.join(href)?;
        self.load(self.http.get(url.clone()), url).await
    }

    /// Fills in a form and presses one of its buttons. Fields that the form does not have are an error.
    ///
    /// # Errors
    /// When there is no such form or nobody answers.
    pub async fn press(&mut self, page: &Page, button: &str, fill: &[(&str, &str)]) -> Result<Page> {
        let form = page.form_with(button)?;
        let mut fields = form.fields.clone();
        for (name, value) in fill {
            let Some(field) = fields.iter_mut().find(|(field, _)| field == name) else {
                bail!("the form of {} has no field {name:?}:\n{}", page.url, page.html);
            };
            (*value).clone_into(&mut field.1);
        }
        let pressed = form.buttons.iter().find(|(text, _)| text == button).and_then(|(_, sent)| sent.clone());
        fields.extend(pressed);
        let mut url = page.url.join(&form.action)?;
        if form.method == "post" {
            return self.load(self.http.post(url.clone()).form(&fields), url).await;
        }
        url.query_pairs_mut().clear().extend_pairs(&fields);
        self.load(self.http.get(url.clone()), url).await
    }

    async fn load(&mut self, first: reqwest::RequestBuilder, url: Url) -> Result<Page> {
        let (mut request, mut url) = (first, url);
        for _ in 0..MAX_REDIRECTS {
            let host = url.host_str().unwrap_or_default().to_owned();
            request = request.header(ACCEPT, "text/html,application/xhtml+xml;q=0.9");
            if let Some(cookies) = self.cookies.get(&host).filter(|cookies| !cookies.is_empty()) {
                let text: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
                request = request.header(COOKIE, text.join("; "));
            }
            let answer = request
                .send()
                .await
                .with_context(|| format!("{}{} does not answer", url.origin().ascii_serialization(), url.path()))?;
            for cookie in answer.headers().get_all(SET_COOKIE) {
                self.keep(&host, cookie.to_str().unwrap_or_default());
            }
            let status = answer.status();
            match answer.headers().get(LOCATION).filter(|_| status.is_redirection()) {
                Some(location) => {
                    url = url.join(location.to_str()?)?;
                    request = self.http.get(url.clone());
                }
                None => return Ok(Page { url, status: status.as_u16(), html: answer.text().await? }),
            }
        }
        bail!("more than {MAX_REDIRECTS} redirects, the last one to {url}")
    }

    fn keep(&mut self, host: &str, cookie: &str) {
        let Some((pair, attributes)) = cookie.split_once(';').or(Some((cookie, ""))) else { return };
        let Some((name, value)) = pair.split_once('=') else { return };
        let jar = self.cookies.entry(host.to_owned()).or_default();
        let attributes = attributes.to_ascii_lowercase();
        if value.is_empty() || attributes.contains("max-age=0") || attributes.contains("01 jan 1970") {
            jar.remove(name.trim());
        } else {
            jar.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
}

impl Page {
    /// The text of the `<title>`.
    #[must_use]
    pub fn title(&self) -> String {
        let title = between(&self.html, "<title>", "</title>").unwrap_or_default();
        unescape(title.trim())
    }

    /// Everything that can be read on the page.
    #[must_use]
    pub fn text(&self) -> String {
        let body = self.html.split_once("<body").map_or(self.html.as_str(), |(_, body)| body);
        unescape(&strip_tags(&format!("<{body}")))
    }

    /// Where the link with this text goes.
    #[must_use]
    pub fn link(&self, text: &str) -> Option<String> {
        self.html.split("<a ").skip(1).find_map(|rest| {
            let (tag, rest) = rest.split_once('>')?;
            let shown = rest.split("</a>").next()?;
            let shown = unescape(&strip_tags(shown));
            let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            (shown == text).then(|| attribute(tag, "href")).flatten()
        })
    }

    /// The form with this button.
    ///
    /// # Errors
    /// When there is none; the message shows the page.
    pub fn form_with(&self, button: &str) -> Result<Form> {
        let found = self.forms().into_iter().find(|form| form.buttons.iter().any(|(text, _)| text == button));
        found.with_context(|| {
            format!("{} ({}) has no button {button:?}; it says:\n{}", self.url.path(), self.status, self.text())
        })
    }

    /// All forms.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        self.html.split("<form").skip(1).map(form).collect()
    }
}

/// Goes to the URL that a program printed and does there what is asked: logs in, consents, binds. `tell` gets a few words
/// about each page. Ends at the page of the program that waits for the browser.
///
/// # Errors
/// When a page is not what it should be.
pub async fn log_in_and_bind(
    browser: &mut Browser,
    url: &str,
    login: &Login,
    mut tell: impl FnMut(&str),
) -> Result<Page> {
    let mut page = browser.open(url).await?;
    // Login, consent, bind: each at most once.
    for _ in 0..4 {
        if page.form_with("Log in").is_ok() {
            tell(&format!("page {:?}: user {}, password, [Log in]", page.title(), login.username));
            let fill = [("username", login.username.as_str()), ("password", login.password.expose_secret())];
            page = browser.press(&page, "Log in", &fill).await?;
        } else if page.form_with("Allow").is_ok() {
            let reads = ["email address", "profile", "groups"]
                .into_iter()
                .filter(|what| page.text().contains(&format!("Your {what}")));
            tell(&format!("page {:?} ({}): [Allow]", page.title(), reads.collect::<Vec<_>>().join(", ")));
            page = browser.press(&page, "Allow", &[]).await?;
        } else if let Ok(form) = page.form_with("Bind") {
            // The question whether a contract shall move to this cluster.
            let moving = form.fields.iter().any(|(name, _)| name == "move");
            let fill: &[(&str, &str)] = if moving { &[("move", "yes")] } else { &[] };
            tell(&format!("page {:?}: {}[Bind]", page.title(), if moving { "move it here, " } else { "" }));
            page = browser.press(&page, "Bind", fill).await?;
        } else {
            break;
        }
    }
    if page.status != 200 || page.url.path() != "/callback" {
        bail!("the browser ended at {} ({}), which says:\n{}", page.url.path(), page.status, page.text());
    }
    Ok(page)
}

fn form(source: &str) -> Form {
    let source = source.split("</form>").next().unwrap_or_default();
    let (head, body) = source.split_once('>').unwrap_or((source, ""));
    let mut form = Form {
        method: attribute(head, "method").unwrap_or_else(|| "get".to_owned()).to_ascii_lowercase(),
        action: attribute(head, "action").unwrap_or_default(),
        fields: Vec::new(),
        buttons: Vec::new(),
    };
    for rest in body.split("<input").skip(1) {
        let tag = rest.split('>').next().unwrap_or_default();
        let Some(name) = attribute(tag, "name") else { continue };
        let kind = attribute(tag, "type").unwrap_or_default();
        let choice = kind == "radio" || kind == "checkbox";
        if !choice || tag.split_whitespace().any(|word| word.trim_end_matches('/') == "checked") {
            form.fields.push((name, attribute(tag, "value").unwrap_or_default()));
        }
    }
    for rest in body.split("<button").skip(1) {
        let (tag, rest) = rest.split_once('>').unwrap_or((rest, ""));
        let text = unescape(&strip_tags(rest.split("</button>").next().unwrap_or_default()));
        let sent = attribute(tag, "name").map(|name| (name, attribute(tag, "value").unwrap_or_default()));
        form.buttons.push((text.split_whitespace().collect::<Vec<_>>().join(" "), sent));
    }
    form
}

/// The value of a tag's attribute, which our pages quote.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once(&format!("{name}=\"")) {
        let (value, after) = after.split_once('"')?;
        if before.is_empty() || before.ends_with(char::is_whitespace) {
            return Some(unescape(value));
        }
        rest = after;
    }
    None
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}

fn strip_tags(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

fn unescape(text: &str) -> String {
    let named = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    named.iter().fold(text.to_owned(), |text, (name, c)| text.replace(name, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_links_and_text_are_read() {
        let page = Page {
            url: Url::parse("http://x/a?b=c").unwrap(),
            status: 200,
            html: r#"<title>T &amp; U</title><body class="x"><p>It&#39;s <b>fine</b></p><a class="q" href="/back?a=1&amp;b=2">Go <i>back</i></a>
              <form method="post" action="/go"><input type="hidden" name="token" value="a&quot;b"><label>N <input name="username" required></label>
              <input type="radio" name="move" value="yes"><input type="radio" name="move" value="no" checked>
              <button name="decision" value="deny">Cancel</button><button class="b" type="submit"> Bind
              </button></form>"#
                .to_owned(),
        };
        assert_eq!(page.title(), "T & U");
        assert!(page.text().contains("It's fine"));
        assert_eq!(page.link("Go back").as_deref(), Some("/back?a=1&b=2"));
        let form = page.form_with("Bind").unwrap();
        assert_eq!((form.method.as_str(), form.action.as_str()), ("post", "/go"));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(form.fields, [field("token", "a\"b"), field("username", ""), field("move", "no")]);
        assert_eq!(form.buttons[0], ("Cancel".to_owned(), Some(field("decision", "deny"))));
        assert!(page.form_with("Log in").unwrap_err().to_string().contains("It's fine"));
    }
}
