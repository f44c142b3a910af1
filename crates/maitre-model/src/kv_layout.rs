//! Which layer keeps its keys and values where: layers in groups, groups on pages.
//!
//! Layers that attend alike form a group with block tables of its own, so that a layer with a window gives back blocks
//! that a layer without one still reads. All groups take their blocks from one pool of equal pages:
//!
//! ```text
//! a page        one block of block_size tokens in each of `places` caches
//! a group       up to `places` layers; the j-th keeps its keys and values in cache j
//!
//! Gemma 3 270m, 15 layers with a window (w) and 3 without (f), places = 3; each column is a group:
//!   cache 0     w0  w3  f5   w7  w10 w14
//!   cache 1     w1  w4  f11  w8  w12 w15
//!   cache 2     w2  w6  f17  w9  w13 w16
//! ```
//!
//! All groups have equally many places, so a group that is not full wastes part of each of its pages.

/// How far back a layer reads its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reads {
    /// The whole context.
    Full,
    /// So many last positions, the token's own included.
    Window(usize),
}

/// Layers that share block tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerGroup {
    /// How far back each of them reads.
    pub reads: Reads,
    /// Layers by number, ascending: the j-th keeps its keys and values in cache j. At most [`KvLayout::places`].
    pub layers: Vec<usize>,
}

/// The groups of a model's layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvLayout {
    /// Caches that a runner has: blocks on a page.
    pub places: usize,
    /// In the order of their first layers.
    pub groups: Vec<LayerGroup>,
}

/// Where a layer keeps its keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachePlace {
    /// Which group's block tables and slots count.
    pub(crate) group: usize,
    /// Which cache they lead to.
    pub(crate) cache: usize,
}

/// The most of a page that groups which are not full may waste, on average over all groups.
const MOST_WASTED: f64 = 0.05;

impl Reads {
    /// The positions that a token sees at most; `None` is all.
    #[must_use]
    pub const fn window(self) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::Window(positions) => Some(positions),
        }
    }
}

impl KvLayout {
    /// Cuts layers, each given by how it reads, into the fewest groups that waste at most 5 % of their pages. All
    /// layers' keys and values take equally many bytes.
    #[must_use]
    pub fn cut(layers: &[Reads]) -> Self {
        let kinds = kinds(layers);
        let candidates = (1..=layers.len()).map(|places| {
            let groups: usize = kinds
                .iter()
                .map(|kind| kind.layers.len().div_ceil(places))
                .sum();
            (groups, places)
        });
        let fits = |&(groups, places): &(usize, usize)| {
            let wasted = groups * places - layers.len();
            wasted as f64 <= MOST_WASTED * (groups * places) as f64
        };
        // One place per page wastes nothing, so there is a candidate for every model that has layers.
        let (_, places) = candidates.filter(fits).min().unwrap_or((0, 1));
        let mut groups: Vec<LayerGroup> = kinds
            .iter()
            .flat_map(|kind| {
                let parts = kind.layers.chunks(places);
                parts.map(|layers| LayerGroup {
                    reads: kind.reads,
                    layers: layers.to_vec(),
                })
            })
            .collect();
        groups.sort_by_key(|group| group.layers.first().copied());
        Self { places, groups }
    }

    /// One group that keeps everything: layers with a window mask what lies behind it, and give nothing back.
    #[must_use]
    pub fn in_one_group(num_layers: usize) -> Self {
        Self {
            places: num_layers,
            groups: vec![LayerGroup {
                reads: Reads::Full,
                layers: (0..num_layers).collect(),
            }],
        }
    }

    /// Blocks in the caches that one block of every group takes, those that no layer uses included.
    #[must_use]
    pub fn blocks_per_context_block(&self) -> usize {
        self.groups.len() * self.places
    }

    /// Where `layer` keeps its keys and values; `None` if it has none of its own.
    pub(crate) fn place_of(&self, layer: usize) -> Option<CachePlace> {
        let places = self.groups.iter().enumerate();
        let mut places = places.filter_map(|(group, LayerGroup { layers, .. })| {
            let cache = layers.iter().position(|&own| own == layer)?;
            Some(CachePlace { group, cache })
        });
        places.next()
    }
}

/// All layers that read alike, as one group that need not fit a page.
fn kinds(layers: &[Reads]) -> Vec<LayerGroup> {
    let mut kinds: Vec<LayerGroup> = Vec::new();
    for (layer, &reads) in layers.iter().enumerate() {
        match kinds.iter_mut().find(|kind| kind.reads == reads) {
            Some(kind) => kind.layers.push(layer),
            None => kinds.push(LayerGroup {
                reads,
                layers: vec![layer],
            }),
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Reads = Reads::Window(512);

    /// Windowed layers, but for every sixth.
    fn five_to_one(layers: usize) -> Vec<Reads> {
        (0..layers)
            .map(|layer| match layer % 6 {
                5 => Reads::Full,
                _ => WINDOW,
            })
            .collect()
    }

    fn shape(layers: &[Reads]) -> (usize, usize, usize) {
        let layout = KvLayout::cut(layers);
        let windowed = layout.groups.iter().filter(|group| group.reads == WINDOW);
        let windowed = windowed.count();
        (layout.places, windowed, layout.groups.len() - windowed)
    }

    #[test]
    fn published_models_are_cut_as_documented() {
        // Gemma 3 270m, 1b, 4b, 12b and 27b; OLMo 3 7b; every other layer; all of one kind.
        assert_eq!(shape(&five_to_one(18)), (3, 5, 1));
        assert_eq!(shape(&five_to_one(26)), (2, 11, 2));
        assert_eq!(shape(&five_to_one(34)), (5, 6, 1));
        assert_eq!(shape(&five_to_one(48)), (10, 4, 1));
        assert_eq!(shape(&five_to_one(62)), (13, 4, 1));
        let olmo: Vec<_> = (0..32)
            .map(|layer| if layer % 4 == 3 { Reads::Full } else { WINDOW })
            .collect();
        assert_eq!(shape(&olmo), (8, 3, 1));
        let alternating: Vec<_> = (0..24)
            .map(|layer| [WINDOW, Reads::Full][layer % 2])
            .collect();
        assert_eq!(shape(&alternating), (12, 1, 1));
        assert_eq!(shape(&[WINDOW; 32]), (32, 1, 0));
        assert_eq!(KvLayout::cut(&[Reads::Full; 7]), KvLayout::in_one_group(7));
    }

    proptest! {
        #[test]
        fn every_layer_has_a_place_of_its_kind_and_little_is_wasted(
            layers in prop::collection::vec(prop::sample::select(vec![Reads::Full, WINDOW, Reads::Window(8)]), 1..80)
        ) {
            let layout = KvLayout::cut(&layers);
            let mut taken = std::collections::BTreeSet::new();
            for (layer, &reads) in layers.iter().enumerate() {
                let place = layout.place_of(layer).unwrap();
                prop_assert!(place.cache < layout.places);
                prop_assert_eq!(layout.groups[place.group].reads, reads);
                prop_assert!(taken.insert((place.group, place.cache)));
            }
            let all = layout.blocks_per_context_block();
            prop_assert!((all - layers.len()) as f64 <= MOST_WASTED * all as f64);
            let first: Vec<_> = layout.groups.iter().map(|group| group.layers[0]).collect();
            prop_assert!(first.is_sorted());
            prop_assert!(layout.groups.iter().all(|group| group.layers.is_sorted()));
            // No cut into fewer groups wastes as little.
            for places in layout.places + 1..=layers.len() {
                let of_kind = |kind: &LayerGroup| kind.layers.len().div_ceil(places);
                let groups: usize = kinds(&layers).iter().map(of_kind).sum();
                let wasted = groups * places - layers.len();
                prop_assert!(groups >= layout.groups.len() || wasted as f64 > MOST_WASTED * (groups * places) as f64);
            }
        }
    }
}
