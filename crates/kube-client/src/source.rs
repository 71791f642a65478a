//! Where a long-running program has its connection from, and whether that says something else by now: a token or a
//! certificate that was renewed in the kubeconfig, another CA. In: a kubeconfig file or nothing (the usual rules, or the
//! pod's service account). Out: a sign that the connection should be made anew.
//!
//! Tokens in files of their own (as pods have them) are not looked at here: every request reads them. The context is the
//! one of the start, so that nobody moves a running program to another cluster by choosing another one for kubectl.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::Duration,
};

use kube::config::{Kubeconfig, NamedAuthInfo};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long after a connection anew failed the next is tried.
const AGAIN: Duration = Duration::from_secs(2);
/// What a pod trusts; its token is read for every request.
const POD_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// Files that say how an API server is reached.
#[derive(Clone, Debug)]
pub struct Source {
    file: Option<PathBuf>,
    context: Option<String>,
}

impl Source {
    /// A kubeconfig file, or the usual rules; a context of it, or the one that is current now.
    pub fn new(file: Option<&Path>, context: Option<&str>) -> Self {
        let mut source = Self { file: file.map(Path::to_owned), context: context.map(str::to_owned) };
        if source.context.is_none() {
            source.context = source.kubeconfig().and_then(|kubeconfig| kubeconfig.current_context);
        }
        source
    }

    /// The context; none if there is no kubeconfig.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref().filter(|context| !context.is_empty())
    }

    fn kubeconfig(&self) -> Option<Kubeconfig> {
        match &self.file {
            Some(path) => Kubeconfig::read_from(path).ok(),
            None => Kubeconfig::read().ok(),
        }
    }

    /// What of it matters, as a number; none while it cannot be read or says nothing of the context.
    fn fingerprint(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        let Some(kubeconfig) = self.kubeconfig() else {
            if self.file.is_some() || self.context().is_some() {
                return None;
            }
            std::fs::read(POD_CA).ok()?.hash(&mut hasher);
            return Some(hasher.finish());
        };
        let context = kubeconfig.contexts.iter().find(|context| Some(context.name.as_str()) == self.context())?;
        let context = context.context.as_ref()?;
        let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()?;
        let user = |named: &&NamedAuthInfo| Some(&named.name) == context.user.as_ref();
        let user = kubeconfig.auth_infos.iter().find(user).and_then(|named| named.auth_info.as_ref());
        // By way of a value, whose maps are sorted.
        serde_json::to_value((cluster, user)).ok()?.to_string().hash(&mut hasher);
        let keys = user.map(|user| [&user.client_certificate, &user.client_key]);
        for file in std::iter::once(&cluster.certificate_authority).chain(keys.into_iter().flatten()).flatten() {
            std::fs::read(file).ok()?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// Runs `work`, anew whenever the files say something else: the token that it is given is cancelled then, and it is
    /// waited for. Ends with `work`, unless that fails after it was begun anew: then it is tried again.
    ///
    /// # Errors
    /// Those of `work` with what the files said at first.
    pub async fn keep<E: std::fmt::Display>(
        &self,
        stop: CancellationToken,
        mut work: impl AsyncFnMut(CancellationToken) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut first = true;
        loop {
            let known = self.fingerprint();
            let turn = stop.child_token();
            let mut working = std::pin::pin!(work(turn.clone()));
            let done = tokio::select! {
                done = &mut working => done,
                () = self.changed(known) => {
                    tracing::info!("what the kubeconfig says has changed: connecting anew");
                    turn.cancel();
                    let done = working.await;
                    first = false;
                    if let Err(error) = &done {
                        tracing::warn!("with what the kubeconfig said before: {error:#}");
                    }
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    continue;
                }
            };
            match done {
                Err(error) if !first => tracing::error!("with what the kubeconfig says now: {error:#}; tried again"),
                done => return done,
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Half-written files are waited for: what counts is what stays for two looks.
    async fn changed(&self, known: Option<u64>) {
        let mut before = known;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.fingerprint();
            if now.is_some() && now != known && now == before {
                return;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn text(token: &str, current: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {current}\n\
             clusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1', certificate-authority: ca.crt}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}, {{name: d, context: {{cluster: k}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_matters_starts_the_work_anew() {
        let folder = std::env::temp_dir().join(format!("kube-client-source-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("kubeconfig");
        let ca = folder.join("ca.crt");
        std::fs::write(&ca, "one").unwrap();
        std::fs::write(&file, text("a", "c")).unwrap();
        let source = Source::new(Some(&file), None);
        assert_eq!(source.context(), Some("c"));
        let turns = AtomicUsize::new(0);
        let stop = CancellationToken::new();
        let work = async |turn: CancellationToken| {
            turns.fetch_add(1, Ordering::SeqCst);
            turn.cancelled().await;
            Ok::<(), String>(())
        };
        let looks = async || tokio::time::sleep(3 * LOOK).await;
        let story = async {
            looks().await;
            let mut seen = vec![turns.load(Ordering::SeqCst)];
            for (path, content) in [
                // Another current context and a broken file are no reason, a token and a CA are.
                (&file, text("a", "d")),
                (&file, "{".to_owned()),
                (&file, text("b", "d")),
                (&ca, "two".to_owned()),
            ] {
                std::fs::write(path, content).unwrap();
                looks().await;
                seen.push(turns.load(Ordering::SeqCst));
            }
            stop.cancel();
            seen
        };
        let (done, seen) = tokio::join!(source.keep(stop.clone(), work), story);
        assert_eq!((done, seen), (Ok(()), vec![1, 1, 1, 2, 3]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_anew_is_tried_again() {
        let file = std::env::temp_dir().join(format!("kube-client-source-again-{}", std::process::id()));
        let write =
            |token: &str| std::fs::write(&file, text(token, "c").replace(", certificate-authority: ca.crt", ""));
        write("a").unwrap();
        let source = Source::new(Some(&file), None);
        let turns = AtomicUsize::new(0);
        let stop = CancellationToken::new();
        let work = async |turn: CancellationToken| {
            match turns.fetch_add(1, Ordering::SeqCst) {
                1 | 2 => return Err("the API server is away"),
                3 => stop.cancel(),
                _ => {}
            }
            turn.cancelled().await;
            Ok(())
        };
        let (done, ()) = tokio::join!(source.keep(stop.clone(), work), async {
            tokio::time::sleep(LOOK).await;
            write("b").unwrap();
        });
        assert_eq!((done, turns.load(Ordering::SeqCst)), (Ok(()), 4));
        std::fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn what_matters_is_the_same_each_time_it_is_read() {
        let file = std::env::temp_dir().join(format!("kube-client-source-exec-{}", std::process::id()));
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: login, interactiveMode: Never, env: \
                    [{name: A, value: a}, {name: B, value: b}, {name: C, value: c}]}";
        let text = text("a", "c").replace("token: a", exec).replace(", certificate-authority: ca.crt", "");
        std::fs::write(&file, text).unwrap();
        let source = Source::new(Some(&file), None);
        let seen: std::collections::BTreeSet<_> = (0..50).map(|_| source.fingerprint()).collect();
        assert!(seen.len() == 1 && !seen.contains(&None), "{seen:?}");
        std::fs::remove_file(&file).unwrap();
    }

    #[tokio::test]
    async fn it_ends_with_the_work() {
        let source = Source::new(Some(Path::new("/nowhere/kubeconfig")), Some("c"));
        let done = source.keep(CancellationToken::new(), async |_| Err("refused")).await;
        assert_eq!(done, Err("refused"));
    }
}
