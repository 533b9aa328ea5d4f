/** The words of training/caption.py, without accents: those that musicgen-tiny knows. */

export const VOCABULARY = new Set(
  `
a accords acoustic acoustique aigu aigue and arpege arpeges arpeggio arpeggios avec bass basse
batterie beat beau beautiful belle bpm brass bright broken busy c calm calme charge chargee
cheerful chords church cinematic clair claire clavier cordes cuivres dark de deep dense do douce
doux dramatic dreamy driving drums electronic en energetic energique epic epique epure epuree et
fast few flute for fort forte gai gaie gentle gloomy grand grave guitar guitare happy heroic high
horn horns in instrumental joli joyeuse joyeux joyful key keyboard la le lent lente light lively
loud low lumineuse lumineux majeur majeure major many medium melancholic melancolique melodie
melody mineur mineure minimal minor moderate modere moderee morceau mournful music musique
mysterious new nice notes of orchestra organ orgue over pace paisible peaceful percussion
percussions piano piece pitched playful please pour powerful puissant puissante quick quiet rapid
rapide recorder relaxing rich sad simple slow soft solo sombre some song sparse string strings
strong sunny sur synth synthe synthesizer synthetiseur tempo the track triste trompette trumpet
tune un une unhurried upbeat vif violin violins violon violons vite vive walking with
`
    .trim()
    .split(/\s+/),
);
