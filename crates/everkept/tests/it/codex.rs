//! The real Codex behind the real server.

use crate::real::{World, survives_kill_9_on_one_agent_session};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn real_codex_survives_kill_9_of_the_server_and_of_itself_on_one_agent_session() {
    let world = World::new();
    let config = format!(
        r#"
        model = "fake"
        model_provider = "fake"
        check_for_update_on_startup = false
        [model_providers.fake]
        name = "fake"
        base_url = "{}/v1"
        env_key = "FAKE_KEY"
        wire_api = "responses"
        request_max_retries = 0
        stream_max_retries = 0
        [analytics]
        enabled = false
        "#,
        world.url
    );
    let home = world.path("home/codex");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.toml"), config).unwrap();
    let env = BTreeMap::from([("CODEX_HOME".to_owned(), home.display().to_string()), ("FAKE_KEY".to_owned(), "none".to_owned())]);
    world.configure("codex", "codex", &["app-server"], env);
    survives_kill_9_on_one_agent_session(&world, "codex").await;
}
