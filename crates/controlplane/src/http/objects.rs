//! API objects over HTTP: methods, subresources and bodies become calls of the pipeline.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use apimachinery::field_path::FieldError;
use apimachinery::status::StatusError;
use axum::body::Body as HttpBody;
use http::header::USER_AGENT;
use http::{Method, Response};
use serde_json::{Value, json};

use super::list::{Collection, check_not_future, list, revision};
use super::negotiate::{Output, body_format, content_type, output};
use super::path::ResourcePath;
use super::query::dry_run;
use super::select::{Selection, View};
use super::watch::{WatchRequest, watch};
use super::{Front, Request, respond};
use crate::pipeline::body::Format;
use crate::pipeline::{Body, Context, DeleteOptions, Deleted, Outcome, Part, Patch, PatchKind, Target};
use crate::registry::Resource;
use crate::request::ALL_CLUSTERS;
use crate::store::{ObjectKey, Scope};

impl Front {
    pub(super) async fn objects(
        self: &Arc<Self>,
        request: &Request<'_>,
        resource: &Arc<Resource>,
        path: &ResourcePath,
    ) -> Result<Response<HttpBody>, StatusError> {
        if !resource.namespaced && !path.namespace.is_empty() && resource.plural != "namespaces" {
            return Err(StatusError::no_such_resource());
        }
        let part = part(resource, path)?;
        if path.subresource == "token" {
            return self.token_request(request, path);
        }
        let target = Target { part, ..Target::new(&request.cluster, resource, &path.namespace, &path.name) };
        let watching = path.watch || request.query.flag("watch");
        let single = !path.name.is_empty();
        match (request.method, single) {
            (&Method::GET | &Method::HEAD, _) if watching => self.watch(request, &target),
            (&Method::GET | &Method::HEAD, false) => self.list(request, &target),
            (&Method::DELETE, false) if *request.cluster != *ALL_CLUSTERS => self.delete_all(request, &target).await,
            _ if *request.cluster == *ALL_CLUSTERS => {
                Err(StatusError::bad_request("requests across logical clusters can only list and watch"))
            }
            (&Method::GET | &Method::HEAD, true) => self.get(request, &target),
            (_, _) if resource.namespaced && target.namespace.is_empty() => Err(StatusError::method_not_allowed()),
            (&Method::POST, false) => self.create(request, &target).await,
            (&Method::PUT, true) => self.update(request, &target).await,
            (&Method::PATCH, true) => self.patch(request, &target).await,
            (&Method::DELETE, true) if part == Part::Main => self.delete(request, &target).await,
            _ => Err(StatusError::method_not_allowed()),
        }
    }

    fn view(&self, request: &Request<'_>, target: &Target, output: &Output) -> Result<View, StatusError> {
        Ok(View {
            shape: output.shape.clone(),
            include: View::include(&request.query)?,
            annotate: *target.cluster == *ALL_CLUSTERS,
            ..View::plain(&target.resource)
        })
    }

    /// The selectors of a request. Custom resources read across clusters are those of one definition.
    fn selection(&self, request: &Request<'_>, target: &Target) -> Result<Selection, StatusError> {
        let selection = Selection::parse(&request.query, &target.resource)?;
        if *target.cluster != *ALL_CLUSTERS || !target.resource.custom {
            return Ok(selection);
        }
        let (core, wanted) = (self.core.clone(), target.resource.clone());
        Ok(selection.of_clusters(Arc::new(move |cluster| {
            let catalog = core.clusters.catalog(cluster);
            let served = catalog.as_ref().and_then(|c| c.resolve(&wanted.group, &wanted.version, &wanted.plural));
            served.is_some_and(|resource| resource.identity == wanted.identity)
        })))
    }

    /// The part of a table that a collection request means; one object, if the field selector says so.
    fn collection(target: &Target, selection: &Selection) -> Collection {
        let scope = match (&*target.cluster, selection.name()) {
            (ALL_CLUSTERS, _) => Scope::All,
            (_, Some(name)) if !target.resource.namespaced || !target.namespace.is_empty() => {
                Scope::Object(ObjectKey { name: name.into(), ..target.key() })
            }
            _ => target.scope(),
        };
        Collection { table: target.table(), scope }
    }

    fn get(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        if let Some(version) = request.query.get("resourceVersion") {
            check_not_future(&self.core.store, revision(version)?)?;
        }
        let view = self.view(request, target, &output)?;
        if target.part == Part::Scale {
            return Ok(respond::value(200, &output, &self.core.scale(target)?));
        }
        let stored = self.core.stored(target)?;
        Ok(respond::text(200, &output, view.bytes(&stored, true, self.core.now())))
    }

    fn list(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        let view = self.view(request, target, &output)?;
        let selection = self.selection(request, target)?;
        let collection = Self::collection(target, &selection);
        let body = list(&self.core.store, &collection, &selection, &view, &request.query, self.core.now())?;
        Ok(respond::text(200, &output, body))
    }

    fn watch(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, true)?;
        let view = self.view(request, target, &output)?;
        let mut selection = self.selection(request, target)?;
        if !target.name.is_empty() && selection.name().is_none() {
            selection = selection.only(&target.name);
        }
        let parsed = WatchRequest::parse(&request.query)?;
        if let Some(wanted) = parsed.not_older_than(&request.query) {
            check_not_future(&self.core.store, wanted)?;
        }
        self.counters.watches.fetch_add(1, Ordering::Relaxed);
        let collection = Self::collection(target, &selection);
        let stream = watch(self.core.clone(), collection, selection, view, parsed, self.shutdown.clone());
        Ok(respond::bytes(200, "application/json", HttpBody::from_stream(stream)))
    }

    fn context(&self, request: &Request<'_>) -> Result<Context, StatusError> {
        let given = request.query.get("fieldManager").map(str::to_owned);
        if let Some(error) = given.as_deref().and_then(manager_error) {
            let kind = match *request.method {
                Method::POST => "CreateOptions",
                Method::PUT => "UpdateOptions",
                Method::DELETE => "DeleteOptions",
                _ => "PatchOptions",
            };
            return Err(StatusError::invalid("meta.k8s.io", kind, "", vec![crate::pipeline::cause(&error)]));
        }
        let agent = || {
            let agent = request.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("unknown");
            agent.split('/').next().unwrap_or_default().chars().take(128).collect::<String>()
        };
        Ok(Context {
            user: request.user.clone(),
            manager: given.unwrap_or_else(agent),
            dry_run: request.query.dry_run()?,
            validation: request.query.field_validation()?,
            now: self.core.now(),
        })
    }

    fn outcome(
        &self,
        request: &Request<'_>,
        target: &Target,
        output: &Output,
        outcome: Outcome,
    ) -> Result<Response<HttpBody>, StatusError> {
        let code = if outcome.created { 201 } else { 200 };
        let value = match (target.part, &target.resource.scale) {
            (Part::Scale, Some(paths)) => crate::pipeline::scale::of(&outcome.object, paths),
            _ => self.view(request, target, output)?.object(outcome.object, true, self.core.now()),
        };
        let mut response = respond::value(code, output, &value);
        respond::warn(&mut response, &outcome.warnings);
        Ok(response)
    }

    async fn create(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        let body = Body::decode(request.body, body_format(request.headers)?)?;
        let outcome = self.core.create(&self.context(request)?, target, body).await?;
        self.outcome(request, target, &output, outcome)
    }

    async fn update(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        let body = Body::decode(request.body, body_format(request.headers)?)?;
        let context = self.context(request)?;
        let outcome = match target.part {
            Part::Scale => self.core.update_scale(&context, target, body).await?,
            _ => self.core.update(&context, target, body).await?,
        };
        self.outcome(request, target, &output, outcome)
    }

    async fn patch(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        let force = request.query.flag("force");
        let (kind, format) = match content_type(request.headers).as_str() {
            "application/json-patch+json" => (PatchKind::Json, Format::Json),
            "application/merge-patch+json" => (PatchKind::Merge, Format::Json),
            "application/strategic-merge-patch+json" => (PatchKind::Strategic, Format::Json),
            "application/apply-patch+yaml" => (PatchKind::Apply { force }, Format::Yaml),
            _ => {
                return Err(StatusError::unsupported_media_type(&[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/apply-patch+yaml",
                    "application/strategic-merge-patch+json",
                ]));
            }
        };
        let mut context = self.context(request)?;
        if matches!(kind, PatchKind::Apply { .. }) {
            context.manager = request.query.get("fieldManager").unwrap_or_default().to_owned();
        } else if request.query.get("force").is_some() {
            let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
            let causes = vec![crate::pipeline::cause(&error)];
            return Err(StatusError::invalid("meta.k8s.io", "PatchOptions", "", causes));
        }
        let patch = Patch { kind, body: Body::decode(request.body, format)? };
        let outcome = self.core.patch(&context, target, patch).await?;
        self.outcome(request, target, &output, outcome)
    }

    /// Options in the body win over those in the query.
    fn delete_options(&self, request: &Request<'_>) -> Result<(Context, DeleteOptions), StatusError> {
        let mut context = self.context(request)?;
        if request.body.is_empty() {
            return Ok((context, request.query.delete_options()?));
        }
        let body = Body::decode(request.body, body_format(request.headers)?)?.value;
        let listed = body.get("dryRun").and_then(Value::as_array).into_iter().flatten();
        context.dry_run |= dry_run(listed.filter_map(Value::as_str))?;
        let mut options = DeleteOptions::from_json(&body)?;
        if options.propagation.is_none() {
            options.propagation = request.query.delete_options()?.propagation;
        }
        Ok((context, options))
    }

    async fn delete(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        let (context, options) = self.delete_options(request)?;
        let deleted = self.core.delete(&context, target, &options).await?;
        let warnings = deleted.warnings.clone();
        let resource = &target.resource;
        let mut response = if deleted.gone {
            let uid = deleted.object.pointer("/metadata/uid").cloned().unwrap_or(Value::Null);
            let mut details = json!({"name": &*target.name, "kind": resource.plural, "uid": uid});
            if !resource.group.is_empty() {
                details["group"] = resource.group.clone().into();
            }
            respond::value(200, &output, &success(details))
        } else {
            let view = self.view(request, target, &output)?;
            respond::value(200, &output, &view.object(deleted.object, true, self.core.now()))
        };
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    /// Deletes what a selection means; answers with what was there.
    async fn delete_all(&self, request: &Request<'_>, target: &Target) -> Result<Response<HttpBody>, StatusError> {
        let output = output(request.headers, false)?;
        let (context, options) = self.delete_options(request)?;
        let selection = Selection::parse(&request.query, &target.resource)?;
        let collection = Self::collection(target, &selection);
        let listed = self.core.store.list(&collection.table, &collection.scope);
        let mut items = Vec::new();
        for object in listed.objects.iter().filter(|o| selection.matches(&target.resource, o)) {
            let one =
                Target { namespace: object.key.namespace.clone(), name: object.key.name.clone(), ..target.clone() };
            match self.core.delete(&context, &one, &options).await {
                Ok(Deleted { object, .. }) => items.push(object),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let resource = &target.resource;
        let list = json!({"kind": resource.list_kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.core.store.revision().to_string()}, "items": items});
        Ok(respond::value(200, &output, &list))
    }
}

/// What is wrong with the name of a field manager.
fn manager_error(name: &str) -> Option<FieldError> {
    if name.len() > 128 {
        return Some(FieldError::too_long("fieldManager", 128));
    }
    let (at, bad) = name.char_indices().find(|(_, c)| c.is_control())?;
    let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(bad));
    Some(FieldError::invalid("fieldManager", name, detail))
}

fn success(details: Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Which part of an object a path means; 404 for subresources that the resource does not have.
fn part(resource: &Resource, path: &ResourcePath) -> Result<Part, StatusError> {
    match path.subresource.as_str() {
        "" => Ok(Part::Main),
        "status" if resource.status => Ok(Part::Status),
        "scale" if resource.scale.is_some() => Ok(Part::Scale),
        "finalize" if resource.subresource("finalize").is_some() => Ok(Part::Finalize),
        "token" if resource.subresource("token").is_some() => Ok(Part::Main),
        _ => Err(StatusError::no_such_resource()),
    }
}
