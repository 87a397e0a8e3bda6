//! What the description of the API tells of all operations alike: an example of what is sent, what
//! comes back, and all that may go wrong. The operations themselves tell what is particular.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{
    Components, Content, OpenApi as Description, PathItem, Ref, RefOr, Response, Schema,
};

use super::examples::example;
use crate::problem::kinds_with_status;

/// Completes the description that the operations make.
pub(super) fn complete(mut description: Description) -> Description {
    for (path, item) in &mut description.paths.paths {
        for (method, operation) in operations(item) {
            complete_operation(method, path, operation);
        }
    }
    let components = description.components.get_or_insert_default();
    for shared in &SHARED {
        shared.add_to(components);
    }
    description
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [
        ("get", get),
        ("put", put),
        ("post", post),
        ("delete", delete),
        ("patch", patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn complete_operation(method: &str, path: &str, operation: &mut Operation) {
    if let Some(RefOr::T(body)) = &mut operation.request_body
        && let Some(RefOr::T(content)) = body.content.get_mut(JSON)
        && let Some(found) = example(method, path)
    {
        content.example = Some(found);
    }
    let sends = operation.request_body.is_some();
    let asks = operation.security.is_some();
    let with_query = !path_is_all(operation);
    let may_go_wrong = [
        (400, sends),
        (401, asks),
        (403, asks),
        (404, path.contains('{')),
        (413, sends),
        (422, sends || with_query),
        (500, true),
        (503, true),
    ];
    let responses = &mut operation.responses.responses;
    for (status, _) in may_go_wrong.iter().filter(|(_, applies)| *applies) {
        let status: &u16 = status;
        responses
            .entry(status.to_string())
            .or_insert_with(|| RefOr::T(Response::new("")));
    }
    for (status, response) in responses {
        complete_response(status, response);
    }
}

/// Whether all that is asked for stands in the path.
fn path_is_all(operation: &Operation) -> bool {
    use utoipa::openapi::path::ParameterIn;
    let parameters = operation.parameters.iter().flatten();
    parameters.into_iter().all(|parameter| match parameter {
        RefOr::T(parameter) => !matches!(parameter.parameter_in, ParameterIn::Query),
        RefOr::Ref(_) => true,
    })
}

/// What an operation does not tell itself is told once for all.
fn complete_response(status: &str, response: &mut RefOr<Response>) {
    let RefOr::T(told) = response else { return };
    let shared = SHARED.iter().find(|shared| shared.is(status));
    match shared {
        Some(shared) if told.description.is_empty() => {
            *response = RefOr::Ref(Ref::from_response_name(shared.name));
        }
        // Problems have a type of content of their own.
        Some(_) => {
            if let Some(content) = told.content.shift_remove(JSON) {
                told.content.insert(PROBLEM_JSON.to_owned(), content);
            }
        }
        None if told.description.is_empty() => told.description = done(status).to_owned(),
        None => {}
    }
}

fn done(status: &str) -> &'static str {
    match status {
        "201" => "It is made, and stands as this says",
        "202" => "It is taken, and waits until no till can be in the way",
        "204" => "It is done",
        _ => "How it stands now",
    }
}

/// A response that means the same for every operation.
struct Shared {
    status: u16,
    name: &'static str,
    description: &'static str,
}

impl Shared {
    fn is(&self, status: &str) -> bool {
        status == self.status.to_string()
    }

    fn add_to(&self, components: &mut Components) {
        let mut text = format!("{} The kinds with this status:\n", self.description);
        for (code, title) in kinds_with_status(self.status) {
            text.push_str(&format!("\n- `/problems/{code}`: {title}"));
        }
        let mut response = Response::new(text);
        let schema: RefOr<Schema> = RefOr::Ref(Ref::from_schema_name("Problem"));
        let content = Content::new(Some(schema));
        response
            .content
            .insert(PROBLEM_JSON.to_owned(), RefOr::T(content));
        components
            .responses
            .insert(self.name.to_owned(), RefOr::T(response));
    }
}

const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";

const fn shared(status: u16, name: &'static str, description: &'static str) -> Shared {
    Shared {
        status,
        name,
        description,
    }
}

const SHARED: [Shared; 9] = [
    shared(
        400,
        "Malformed",
        "The request cannot be read. Nothing was done.",
    ),
    shared(
        401,
        "Unauthorized",
        "The token is missing or not known here.",
    ),
    shared(403, "Forbidden", "The token does not reach that far."),
    shared(
        404,
        "NotFound",
        "There is no such thing, or it is out of the token's reach.",
    ),
    shared(
        409,
        "Conflict",
        "The books are in the way; nothing was done. `type` tells how, and `detail` what to do.",
    ),
    shared(413, "TooLarge", "The body is too large. Nothing was done."),
    shared(
        422,
        "Invalid",
        "The request was read and a value in it is not allowed; `field` names it. Nothing was done.",
    ),
    shared(
        500,
        "Internal",
        "The hub failed, and its log says why. What carries an `Idempotency-Key` may be sent again.",
    ),
    shared(
        503,
        "Busy",
        "Too much is being written at this moment; send it again after `Retry-After` seconds.",
    ),
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Every operation with its method and path, as it is described.
    fn described() -> Vec<(String, String, Value)> {
        let description = serde_json::to_value(super::super::open_api()).unwrap();
        let paths = description["paths"].as_object().unwrap().clone();
        let operations = paths.into_iter().flat_map(|(path, item)| {
            let item = item.as_object().unwrap().clone();
            item.into_iter()
                .map(move |(method, operation)| (method, path.clone(), operation))
        });
        operations.collect()
    }

    #[test]
    fn every_answer_of_every_operation_is_described() {
        let described = described();
        assert!(described.len() > 60, "{}", described.len());
        for (method, path, operation) in described {
            assert!(operation["summary"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let told = response["description"].as_str().unwrap_or_default();
                let shared = response["$ref"].is_string();
                assert!(shared || !told.is_empty(), "{method} {path}: {status}");
            }
        }
    }

    #[test]
    fn every_body_that_an_operator_sends_has_an_example_and_every_example_a_body() {
        let mut with_body = Vec::new();
        for (method, path, operation) in described() {
            let body = &operation["requestBody"]["content"][JSON];
            let of_till = operation["tags"][0] == "till-link";
            if !body.is_object() || of_till {
                continue;
            }
            assert!(body["example"].is_object(), "{method} {path}");
            with_body.push((method, path));
        }
        assert_eq!(with_body.len(), super::super::examples::count());
    }

    #[test]
    fn the_kinds_of_problems_stand_with_their_statuses() {
        let description = serde_json::to_value(super::super::open_api()).unwrap();
        let conflict = &description["components"]["responses"]["Conflict"];
        let text = conflict["description"].as_str().unwrap();
        for code in ["account-blocked", "not-covered", "till-in-use"] {
            assert!(text.contains(&format!("`/problems/{code}`")), "{text}");
        }
        assert!(!text.contains("deposit-amount"), "{text}");
    }
}
