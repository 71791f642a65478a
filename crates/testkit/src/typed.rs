//! `kubectl bind` typed without a terminal, up to the point where it waits for a browser. In: words. Out: the URL to open;
//! then what a person may do (go through the pages, press Ctrl-C), and how the program ended, its two outputs apart.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kube_bind::browser::{self, Browser, Page};
use kube_bind::stage::Login;
use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::program::{Ended, Person};

/// Longest time a program may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that waits for its browser.
pub struct Typed {
    /// What it asks to open.
    pub url: String,
    child: Child,
    said: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Typed {
    /// Types it and reads the URL.
    pub async fn start(person: &Person, words: &[&str]) -> Self {
        let mut command = tokio::process::Command::from(person.command(words));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let reader = tokio::spawn(listen(child.stderr.take().unwrap(), said.clone()));
        let deadline = Instant::now() + LIMIT;
        let url = loop {
            let seen = said.lock().clone();
            let complete = seen.rfind('\n').map_or("", |end| &seen[..end]);
            if let Some(url) =
                complete.split_whitespace().find(|word| word.starts_with("http") && word.contains("redirect_url="))
            {
                break url.to_owned();
            }
            assert!(
                !reader.is_finished() && Instant::now() < deadline,
                "kubectl bind {words:?} asked for no browser:\n{seen}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Self { url, child, said, reader }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.reader.is_finished()
    }

    /// Ctrl-C.
    pub async fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    }

    /// Waits for its end.
    pub async fn end(self) -> Ended {
        let output = tokio::time::timeout(LIMIT, self.child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("kubectl bind did not end:\n{}", self.said.lock())).unwrap();
        self.reader.await.unwrap();
        let stderr = self.said.lock().clone();
        Ended { success: output.status.success(), stdout: String::from_utf8_lossy(&output.stdout).into_owned(), stderr }
    }
}

async fn listen(mut from: ChildStderr, into: Arc<Mutex<String>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        into.lock().push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

impl Person {
    /// `kubectl bind login`, with the login given in the browser and consent there.
    pub async fn log_in(&self, server: &str, login: &Login) -> Ended {
        let typed = Typed::start(self, &["login", server, "--skip-browser"]).await;
        let mut browser = Browser::new().unwrap();
        browser::log_in_and_bind(&mut browser, &typed.url, login, |_| {}).await.unwrap();
        typed.end().await
    }
}

/// Opens a URL and goes through login and consent; ends at the page after them.
pub async fn log_in(browser: &mut Browser, url: &str, login: &Login) -> Page {
    let page = browser.open(url).await.unwrap();
    let fill = [("username", login.username.as_str()), ("password", login.password.expose_secret())];
    let page =
        if page.form_with("Log in").is_ok() { browser.press(&page, "Log in", &fill).await.unwrap() } else { page };
    if page.form_with("Allow").is_ok() { browser.press(&page, "Allow", &[]).await.unwrap() } else { page }
}
