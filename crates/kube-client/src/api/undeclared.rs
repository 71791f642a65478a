//! An API server refuses to apply a field that is newer than itself. In: its refusal and what was applied. Out: the same
//! without these fields, and their names. For CRDs only: what such a field of a CRD adds (rules, printing) is the API
//! server's to do, while a field that is missing in any other object may be somebody's data.

use serde_json::Value;

const REFUSAL: &str = "failed to create typed patch object";
const REASON: &str = ": field not declared in schema";

/// Takes out of `body` what the API server says that it does not know. `None` when that is not what it says, or not all
/// that it says: then it has refused for another reason.
pub(super) fn without(message: &str, body: &Value) -> Option<(Value, Vec<String>)> {
    let (_, list) = message.split_once(REFUSAL)?;
    let mut body = body.clone();
    let mut fields = Vec::new();
    for line in list.trim_start_matches(':').lines() {
        // `(name; kind): errors:` stands before a list, and the first half of it before one refusal alone.
        if line.trim_end().ends_with("errors:") && fields.is_empty() {
            continue;
        }
        let path = line.trim().strip_suffix(REASON)?;
        let path = path.rsplit_once("): ").map_or(path, |(_, path)| path);
        if !remove(&mut body, path) {
            return None;
        }
        fields.push(path.to_owned());
    }
    (!fields.is_empty()).then_some((body, fields))
}

/// Removes what `.a.b[0].c` leads to. Names of properties may have dots: the longest that is there is meant.
fn remove(value: &mut Value, path: &str) -> bool {
    if let Some(rest) = path.strip_prefix('[') {
        let Some((index, rest)) = rest.split_once(']') else { return false };
        let item = index.parse::<usize>().ok().and_then(|index| value.get_mut(index));
        return item.is_some_and(|item| remove(item, rest));
    }
    let (Some(path), Some(map)) = (path.strip_prefix('.'), value.as_object_mut()) else { return false };
    if map.remove(path).is_some() {
        return true;
    }
    let mut ends: Vec<usize> = path.match_indices(['.', '[']).map(|(at, _)| at).collect();
    ends.reverse();
    ends.into_iter().any(|end| map.get_mut(&path[..end]).is_some_and(|next| remove(next, &path[end..])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn crd() -> Value {
        let schema = json!({"properties": {
            "a.b": {"x-kubernetes-validations": [{"rule": "true"}], "type": "object"},
            "a": {"type": "string"},
        }});
        json!({"spec": {"group": "g", "versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": schema}},
            {"name": "v2", "selectableFields": [{"jsonPath": ".a"}]},
        ]}})
    }

    #[test]
    fn what_kubernetes_1_20_says_it_does_not_know_is_left_out() {
        // As recorded from v1.20.15, which answers it with code 500 and no reason.
        let message = "failed to create typed patch object: errors:\n  \
             .spec.versions[0].schema.openAPIV3Schema.properties.a.b.x-kubernetes-validations: field not declared in schema\n  \
             .spec.versions[1].selectableFields: field not declared in schema";
        let (body, fields) = without(message, &crd()).unwrap();
        let schema = json!({"properties": {"a.b": {"type": "object"}, "a": {"type": "string"}}});
        let versions = json!([{"name": "v1", "schema": {"openAPIV3Schema": schema}}, {"name": "v2"}]);
        assert_eq!(body, json!({"spec": {"group": "g", "versions": versions}}));
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[1], ".spec.versions[1].selectableFields");
    }

    #[test]
    fn one_alone_stands_in_the_line() {
        for before in
            ["failed to create typed patch object", "failed to create typed patch object (/as.x.io; a.io/v1, Kind=A)"]
        {
            let message = format!("{before}: .spec.versions[1].selectableFields: field not declared in schema");
            let (body, fields) = without(&message, &crd()).unwrap();
            assert_eq!(body["spec"]["versions"][1], json!({"name": "v2"}));
            assert_eq!(fields, [".spec.versions[1].selectableFields"]);
        }
    }

    #[test]
    fn any_other_refusal_stands() {
        let known = "  .spec.group: field not declared in schema";
        for message in [
            "etcdserver: request timed out".to_owned(),
            "failed to create typed patch object: .spec.group: expected map, got string".to_owned(),
            format!("failed to create typed patch object: errors:\n{known}\n  .spec.versions: expected map, got list"),
            "failed to create typed patch object: .spec.nothing.here: field not declared in schema".to_owned(),
            "failed to create typed patch object: .spec.versions[7].name: field not declared in schema".to_owned(),
        ] {
            assert_eq!(without(&message, &crd()), None, "{message}");
        }
    }
}
