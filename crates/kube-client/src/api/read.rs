//! Lists and watches. In: a [`Resource`] and a [`ListQuery`]. Out: objects undecoded, one by one, so that one that cannot be
//! read spoils nothing, and so that neither a page nor its text need be in memory as a whole.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, value::RawValue};

use super::{Api, REQUEST_TIMEOUT};
use crate::{
    error::{ApiError, Class},
    resource::{Resource, encode},
    store::ObjectKey,
    stream::{Lines, Piece, Pieces},
};

/// What to list or watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListQuery {
    /// Namespace, or all.
    pub namespace: Option<String>,
    /// Label selector in Kubernetes' text form.
    pub labels: Option<String>,
    /// Field selector in Kubernetes' text form.
    pub fields: Option<String>,
}

impl ListQuery {
    /// Everything in one namespace.
    pub fn namespace(namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    /// One object by name.
    pub fn named(namespace: Option<&str>, name: &str) -> Self {
        Self { namespace: namespace.map(Into::into), fields: Some(format!("metadata.name={name}")), labels: None }
    }

    fn query(&self) -> String {
        let mut query = String::new();
        if let Some(labels) = &self.labels {
            query.push_str(&format!("&labelSelector={}", encode(labels)));
        }
        if let Some(fields) = &self.fields {
            query.push_str(&format!("&fieldSelector={}", encode(fields)));
        }
        query
    }
}

/// One page of a list. Items are undecoded, so that one bad object cannot spoil the page.
#[derive(Debug)]
pub struct Page {
    /// Objects as the server wrote them (without `kind` and `apiVersion` for built-in kinds).
    pub items: Vec<Box<RawValue>>,
    /// Token of the next page.
    pub continue_token: Option<String>,
    /// Revision of the list.
    pub revision: String,
}

/// One step through a page of a list that is cut into its items while it arrives.
#[derive(Debug)]
pub enum Listed {
    /// An object, undecoded.
    Item(bytes::Bytes),
    /// The page is complete.
    End {
        /// Token of the next page.
        continue_token: Option<String>,
        /// Revision of the list.
        revision: String,
    },
}

/// One line of a watch.
#[derive(Debug)]
pub struct Frame {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub event: String,
    /// The object, bookmark or Status, undecoded.
    pub object: Box<RawValue>,
}

impl Api {
    /// One page of a consistent list.
    pub async fn list_page(
        &self,
        resource: &Resource,
        query: &ListQuery,
        limit: u32,
        token: Option<&str>,
    ) -> Result<Page, ApiError> {
        #[derive(serde::Deserialize)]
        struct List {
            metadata: ListMeta,
            #[serde(default)]
            items: Option<Vec<Box<RawValue>>>,
        }
        let (path, key) = list_path(resource, query, limit, token);
        let bytes = self.bytes("list", resource, &key, Method::GET, &path, None, None).await?;
        let list: List =
            serde_json::from_slice(&bytes).map_err(|e| self.failure("list", resource, &key, Class::Decode, &e))?;
        Ok(Page {
            items: list.items.unwrap_or_default(),
            continue_token: Some(list.metadata.token).filter(|t| !t.is_empty()),
            revision: list.metadata.revision,
        })
    }

    /// The same, cut into its items while it arrives: neither the page nor its text is ever in memory as a whole. The
    /// last thing that the stream gives is [`Listed::End`] or an error.
    pub async fn list_stream(
        &self,
        resource: &Resource,
        query: &ListQuery,
        limit: u32,
        token: Option<&str>,
    ) -> Result<BoxStream<'static, Result<Listed, ApiError>>, ApiError> {
        #[derive(serde::Deserialize)]
        struct List {
            metadata: ListMeta,
        }
        let (path, key) = list_path(resource, query, limit, token);
        let answer = self.send("list", resource, &key, Method::GET, &path, None, None).await?;
        let pieces = Pieces::new(answer.into_body().into_data_stream().boxed());
        let (this, resource) = (self.clone(), resource.clone());
        Ok(futures::stream::unfold(Some((pieces, this, resource, key)), |state| async move {
            let (mut pieces, this, resource, key) = state?;
            let fail = |class, error: &dyn std::error::Error| this.failure("list", &resource, &key, class, error);
            let listed = match tokio::time::timeout(REQUEST_TIMEOUT, pieces.next()).await {
                Ok(Ok(Piece::Item(item))) => {
                    return Some((Ok(Listed::Item(item.into())), Some((pieces, this, resource, key))));
                }
                Ok(Ok(Piece::Rest(rest))) => serde_json::from_slice::<List>(&rest)
                    .map(|List { metadata }| Listed::End {
                        continue_token: Some(metadata.token).filter(|t| !t.is_empty()),
                        revision: metadata.revision,
                    })
                    .map_err(|error| fail(Class::Decode, &error)),
                Ok(Err(error)) => Err(fail(Class::Unreachable, &error)),
                Err(elapsed) => Err(fail(Class::Unreachable, &elapsed)),
            };
            Some((listed, None))
        })
        .boxed())
    }

    /// All objects of a (small) list, decoded; objects that do not decode are left out.
    pub async fn list(&self, resource: &Resource, query: &ListQuery) -> Result<Vec<Value>, ApiError> {
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = self.list_page(resource, query, 500, token.as_deref()).await?;
            objects.extend(page.items.iter().filter_map(|raw| serde_json::from_str::<Value>(raw.get()).ok()));
            token = page.continue_token;
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    /// Starts a watch at `revision`; the server ends it after `timeout`. A refusal (410 too) is an error here, errors in
    /// the stream are items.
    pub async fn watch(
        &self,
        resource: &Resource,
        query: &ListQuery,
        revision: &str,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<Frame, ApiError>>, ApiError> {
        #[derive(serde::Deserialize)]
        struct Line {
            #[serde(rename = "type")]
            event: String,
            object: Box<RawValue>,
        }
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}{}",
            resource.collection_path(query.namespace.as_deref()),
            timeout.as_secs().max(1),
            encode(revision),
            query.query()
        );
        let key = ObjectKey::new(query.namespace.as_deref().unwrap_or_default(), "*");
        let (client, place) = match &self.lanes {
            Some(lanes) => lanes.take().map_err(|e| self.failure("watch", resource, &key, Class::Unreachable, &e))?,
            None => (self.client.clone(), Arc::default()),
        };
        let answer = self.send_over(client, "watch", resource, &key, Method::GET, &path, None, None).await?;
        let this = self.clone();
        let resource = resource.clone();
        let data = answer.into_body().into_data_stream();
        let lines = Lines::new(data.boxed());
        let stream =
            futures::stream::unfold(lines, |mut lines| async move { lines.next().await.map(|line| (line, lines)) });
        Ok(stream
            .map(move |line| {
                // Taken as long as the stream lives.
                let _ = &place;
                let line = line.map_err(|e| this.failure("watch", &resource, &key, Class::Unreachable, &e))?;
                let line: Line = serde_json::from_slice(&line)
                    .map_err(|e| this.failure("watch", &resource, &key, Class::Decode, &e))?;
                Ok(Frame { event: line.event, object: line.object })
            })
            .boxed())
    }
}

#[derive(serde::Deserialize)]
struct ListMeta {
    #[serde(default, rename = "resourceVersion")]
    revision: String,
    #[serde(default, rename = "continue")]
    token: String,
}

fn list_path(resource: &Resource, query: &ListQuery, limit: u32, token: Option<&str>) -> (String, ObjectKey) {
    let mut path = format!("{}?limit={limit}{}", resource.collection_path(query.namespace.as_deref()), query.query());
    if let Some(token) = token {
        path.push_str(&format!("&continue={}", encode(token)));
    }
    (path, ObjectKey::new(query.namespace.as_deref().unwrap_or_default(), "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_encoded() {
        let query = ListQuery { labels: Some("a=b,c!=d".into()), fields: None, namespace: None };
        assert_eq!(query.query(), "&labelSelector=a%3Db%2Cc%21%3Dd");
    }
}
