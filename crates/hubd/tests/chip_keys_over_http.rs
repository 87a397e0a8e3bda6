//! Keys of chips that prove themselves, from an operator who makes them to the till that opens them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use reqwest::{Method, StatusCode};
use serde_json::json;
use site::{OTHER_TENANT, Site, TOKEN, Till};
use sync_proto::{EnrolmentKeys, KeyDelivery, Sealed, TillKey};

const UID: &str = "04958CAA5C5E80";
const CANTEEN: &str = "/v1/canteens/1/key-sets";

/// What the hub seals for a till, and the till opens.
async fn delivery(site: &Site, till: &Till, seed: u8) -> Option<KeyDelivery> {
    let path = "/v1/tills/kasse-1/chip-keys?once=0";
    let answer = site.send(Method::GET, path, &till.token, &[], None).await;
    if answer.status() == StatusCode::NO_CONTENT {
        return None;
    }
    assert_eq!(answer.status(), StatusCode::OK);
    let sealed: Sealed = answer.json().await.unwrap();
    let stranger = TillKey::from_seed(&[seed + 1; 32]);
    assert!(stranger.open(KeyDelivery::ABOUT, &sealed).is_err());
    let key = TillKey::from_seed(&[seed; 32]);
    let text = key.open(KeyDelivery::ABOUT, &sealed).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

async fn enrol(site: &Site, account: i64, version: u8) -> StatusCode {
    let body = json!({"chip": UID, "key_version": version});
    let path = format!("/v1/accounts/{account}/chips");
    site.post(&path, body).await.0
}

async fn keys(site: &Site, account: i64) -> EnrolmentKeys {
    let path = format!("/v1/accounts/{account}/chip-keys");
    let (status, keys) = site.post(&path, json!({"chip": UID})).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_value(keys).unwrap()
}

#[tokio::test]
async fn a_till_is_given_the_keys_of_its_canteens_chips_and_no_others() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 5).await;
    assert_eq!(delivery(&site, &till, 5).await, None);
    let (account, _) = site.chip("72BF9961").await;
    assert_eq!(site.post(CANTEEN, json!({})).await.0, StatusCode::CREATED);
    let written = keys(&site, account.0).await;
    assert_eq!(enrol(&site, account.0, 1).await, StatusCode::CREATED);

    let delivered = delivery(&site, &till, 5).await.unwrap();
    let [ntag, desfire] = delivered.applications.as_slice() else {
        panic!("two kinds of chips")
    };
    let [set] = ntag.sets.as_slice() else {
        panic!("one version")
    };
    assert_eq!(ntag.name.as_deref(), Some("D2760000850101"));
    assert_eq!(desfire.number.as_deref(), Some("CA17EE"));
    // A till of before marked chips finds only what it knows among the applications.
    let [ultralight] = delivered.marked.as_slice() else {
        panic!("one kind of marked chips")
    };
    assert_eq!(ultralight.mark, "CA17AE");
    assert_eq!(ultralight.sets[0].uid_key, set.uid_key);
    assert_ne!(ultralight.sets[0].chips[UID], set.chips[UID]);
    assert_eq!(set.uid_key, written.versions[0].keys[1]);
    assert_eq!(set.chips.len(), 1);
    assert_eq!(set.chips[UID], written.versions[0].keys[3]);
    // The key that may change the others stays at the hub.
    assert_ne!(set.chips[UID], written.versions[0].keys[0]);
}

#[tokio::test]
async fn a_revoked_version_is_delivered_no_more_and_its_chips_can_be_renewed() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 5).await;
    let (account, _) = site.chip("72BF9961").await;
    site.post(CANTEEN, json!({})).await;
    let old = keys(&site, account.0).await;
    enrol(&site, account.0, 1).await;
    let revoke = format!("{CANTEEN}/1/revoke");
    assert_eq!(
        site.post(&revoke, json!({})).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        site.post(&revoke, json!({})).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(delivery(&site, &till, 5).await, None);
    assert_eq!(enrol(&site, account.0, 1).await, StatusCode::NOT_FOUND);

    site.post(CANTEEN, json!({})).await;
    let renewed = keys(&site, account.0).await;
    assert_eq!(renewed.versions[0].version, 2);
    // What the chip carries still, so that it can be written over.
    assert_eq!(renewed.versions[1], old.versions[0]);
    assert_eq!(enrol(&site, account.0, 2).await, StatusCode::CREATED);
    let delivered = delivery(&site, &till, 5).await.unwrap();
    let versions: Vec<u8> = delivered.applications[0]
        .sets
        .iter()
        .map(|set| set.version)
        .collect();
    assert_eq!(versions, [2]);
    let listed = site.get(CANTEEN).await;
    assert_eq!(listed["key_sets"][0]["chips"], 1);
    assert!(listed["key_sets"][1]["revoked_at"].is_string());
    // No answer but the one for writing a chip holds a key.
    let key = serde_json::to_value(&renewed.versions[0].keys[3]).unwrap();
    assert!(!listed.to_string().contains(key.as_str().unwrap()));
}

#[tokio::test]
async fn a_uid_without_a_letter_is_a_uid_and_a_desfire_has_keys_of_its_own() {
    const DIGITS: &str = "04123456789012";
    let site = Site::open().await;
    let (account, _) = site.chip("72BF9961").await;
    site.post(CANTEEN, json!({})).await;
    let path = format!("/v1/accounts/{}/chip-keys", account.0);
    let asked = json!({"chip": DIGITS});
    let (status, ntag) = site.post(&path, asked).await;
    assert_eq!(status, StatusCode::OK, "{ntag}");
    let asked = json!({"chip": DIGITS, "kind": "desfire"});
    let (_, desfire) = site.post(&path, asked).await;
    let [ntag, desfire] = [ntag, desfire].map(|keys| {
        let keys: EnrolmentKeys = serde_json::from_value(keys).unwrap();
        keys.versions[0].keys.clone()
    });
    for number in 0..5 {
        assert_eq!(ntag[number] == desfire[number], number == 1, "{number}");
    }
    let odd = json!({"chip": DIGITS, "kind": "abacus"});
    assert_eq!(
        site.post(&path, odd).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );

    let chips = format!("/v1/accounts/{}/chips", account.0);
    let (status, chip) = site
        .post(&chips, json!({"chip": DIGITS, "key_version": 1}))
        .await;
    assert_eq!(
        (status, &chip["uid"]),
        (StatusCode::CREATED, &json!(DIGITS))
    );
    let card = site.post(&chips, json!({"chip": DIGITS})).await;
    assert_eq!(card.0, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn keys_are_for_operators_within_reach_and_enrolled_tills_only() {
    let site = Site::open().await;
    let till = site.till("kasse-1", "DEMO-KASSE-1", 5).await;
    let (account, _) = site.chip("72BF9961").await;
    site.post(CANTEEN, json!({})).await;
    let chip_keys = format!("/v1/accounts/{}/chip-keys", account.0);
    let body = json!({"chip": UID});
    for (method, path, token, body, expect) in [
        (Method::POST, CANTEEN, OTHER_TENANT, None, 404),
        (Method::GET, CANTEEN, OTHER_TENANT, None, 404),
        (Method::POST, &*chip_keys, OTHER_TENANT, Some(&body), 404),
        (Method::POST, &*chip_keys, &*till.token, Some(&body), 401),
        (Method::POST, &*chip_keys, "wrong", Some(&body), 401),
        (Method::GET, "/v1/tills/kasse-1/chip-keys", TOKEN, None, 401),
        (
            Method::GET,
            "/v1/tills/kasse-2/chip-keys",
            &*till.token,
            None,
            401,
        ),
    ] {
        let body = body.map(|body| body.to_string());
        let headers = [("content-type", "application/json")];
        let answer = site.send(method, path, token, &headers, body).await;
        assert_eq!(answer.status().as_u16(), expect, "{path}");
    }
    let odd = site.post(&chip_keys, json!({"chip": "hello"})).await;
    assert_eq!(odd.0, StatusCode::UNPROCESSABLE_ENTITY);
}
