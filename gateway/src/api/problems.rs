//! Which problems an endpoint is answered with beside those that all are.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema as _};

use crate::problem::Problem;

/// What is stored is not what the request expects of it.
pub(super) struct Conflict;

impl IntoResponses for Conflict {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = Ref::from_schema_name(Problem::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description("What is stored is not what the request expects of it; read it again and decide.")
            .content("application/problem+json", content)
            .build();
        BTreeMap::from([("409".to_owned(), RefOr::T(response))])
    }
}
