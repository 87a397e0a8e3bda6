//! The hub's API: what tills use, and what operators and integrators use.

mod accounts;
mod chips;
mod debits;
mod description;
mod entries;
mod examples;
mod fetching;
mod key_sets;
mod limits;
mod money_in;
mod notices;
mod oversight;
mod products;
mod restore;
mod settlements;
mod settling;
mod statements;
mod statuses;
mod till_link;
mod tills;
mod top_ups;
mod unmatched;

pub(crate) use statements::{Days, line_text};

use axum::Router;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::server::Hub;

/// The description of the API as it is committed and served.
pub fn open_api() -> Description {
    described_router().1
}

/// The API and its description.
pub(crate) fn described_router() -> (Router<Hub>, Description) {
    let (router, description) = router().split_for_parts();
    (router, description::complete(description))
}

fn router() -> OpenApiRouter<Hub> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(till_link::enrol))
        .routes(routes!(till_link::push))
        .routes(routes!(entries::branch))
        .routes(routes!(entries::raw))
        .routes(routes!(till_link::feed))
        .routes(routes!(till_link::snapshot))
        .routes(routes!(till_link::authorise))
        .routes(routes!(statuses::denylist))
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::show, accounts::change))
        .routes(routes!(accounts::block))
        .routes(routes!(accounts::reactivate))
        .routes(routes!(accounts::close))
        .routes(routes!(statuses::of_account))
        .routes(routes!(statuses::of_chip))
        .routes(routes!(statements::statement))
        .routes(routes!(money_in::deposit))
        .routes(routes!(money_in::reverse))
        .routes(routes!(money_in::correct))
        .routes(routes!(debits::pay_out))
        .routes(routes!(debits::transfer))
        .routes(routes!(debits::order))
        .routes(routes!(debits::list))
        .routes(routes!(debits::cancel))
        .routes(routes!(debits::force))
        .routes(routes!(
            top_ups::show_agreement,
            top_ups::agree,
            top_ups::cancel_agreement
        ))
        .routes(routes!(top_ups::list))
        .routes(routes!(top_ups::give_up))
        .routes(routes!(unmatched::list))
        .routes(routes!(unmatched::take_in))
        .routes(routes!(unmatched::dismiss))
        .routes(routes!(chips::of_account, chips::add))
        .routes(routes!(chips::find))
        .routes(routes!(chips::show))
        .routes(routes!(chips::block))
        .routes(routes!(chips::reactivate))
        .routes(routes!(chips::replace))
        .routes(routes!(key_sets::list, key_sets::make))
        .routes(routes!(key_sets::revoke))
        .routes(routes!(key_sets::of_chip))
        .routes(routes!(key_sets::of_till))
        .routes(routes!(products::list, products::create))
        .routes(routes!(products::change, products::delete))
        .routes(routes!(tills::list, tills::create))
        .routes(routes!(tills::show))
        .routes(routes!(tills::renew_code))
        .routes(routes!(tills::revoke))
        .routes(routes!(tills::retire))
        .routes(routes!(fetching::pull))
        .routes(routes!(fetching::resend))
        .routes(routes!(fetching::begin_backup))
        .routes(routes!(fetching::backup_is_verified))
        .routes(routes!(oversight::canteens))
        .routes(routes!(oversight::exposure))
        .routes(routes!(restore::show))
        .routes(routes!(restore::unfreeze))
        .routes(routes!(restore::import_charges))
        .routes(routes!(settlements::reconcile))
        .routes(routes!(restore::resume))
        .routes(routes!(oversight::flags))
        .routes(routes!(notices::list))
        .routes(routes!(notices::of_account))
        .routes(routes!(oversight::quarantine))
        .routes(routes!(settling::process))
        .routes(routes!(settling::refund))
        .routes(routes!(settling::assign))
        .routes(routes!(settling::z_reports))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Canteen hub",
        description = "Accounts, chips, deposits, statements and tills of canteens.\n\n\
            Amounts are whole numbers of øre beside a `currency`; times are RFC 3339 in UTC; days \
            are dates in Europe/Copenhagen. Errors are `application/problem+json`; the `type` \
            leads to an explanation on this hub, and the kinds stand by their status under the \
            shared responses. Show an operator's token as a bearer token. Requests that move money \
            carry an `Idempotency-Key` of your own: the same key and body again give the first \
            answer and move nothing.\n\n\
            Lists have a `next_cursor` while there is more; send it as `cursor`. Fields may be added \
            to answers: pass over those that you do not know. In requests an unknown field is \
            refused.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    modifiers(&Tokens),
    tags(
        (name = "accounts", description = "Accounts, their limits and the persons behind them"),
        (name = "money", description = "Deposits, corrections and statements"),
        (name = "top-ups", description = "Automatic top-ups"),
        (name = "chips", description = "Chips: find, block, reactivate, replace"),
        (name = "products", description = "The cashier's buttons"),
        (name = "tills", description = "Tills as the operator sees them"),
        (name = "oversight", description = "What the operator should look at"),
        (name = "till-link", description = "What tills themselves use; see the crate sync-proto"),
    )
)]
struct Api;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, description: &mut Description) {
        let bearer =
            || SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("operator", bearer());
        components.add_security_scheme("till", bearer());
    }
}

/// The one currency.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, ToSchema, Default,
)]
pub(crate) enum Currency {
    /// Danish kroner; amounts are øre.
    #[default]
    #[serde(rename = "DKK")]
    Dkk,
}
