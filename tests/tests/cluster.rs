//! Tests against one shared kube-apiserver: modules here rather than files beside this one, so that they share it.

mod cluster {
    mod claims;
    mod definitions;
    mod dropped;
    mod handover;
    mod hold;
    mod images;
    mod lab;
    mod life;
    mod neighbours;
    mod onboarding;
    mod orders;
    mod power;
    mod probe;
    mod refresh;
    mod shards;
    mod told;
}
