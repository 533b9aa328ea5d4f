/** The words that musicgen-tiny knows, as training/caption.py writes them. */

export const VOCABULARY = new Set(
  `
a accords acoustic acoustique aigu aiguë and arpeggio arpeggios arpège arpèges avec bass basse
batterie beat beau beautiful belle bpm brass bright broken busy c calm calme chargé chargée
cheerful chords church cinematic clair claire clavier cordes cuivres dark de deep dense do
douce doux dramatic dreamy driving drums electronic en energetic epic et fast few flute flûte
for fort forte gai gaie gentle gloomy grand grave guitar guitare happy heroic high horn horns
in instrumental joli joyeuse joyeux joyful key keyboard la le lent lente light lively loud low
lumineuse lumineux majeur majeure major many medium melancholic melody mineur mineure minimal
minor moderate modéré modérée morceau mournful music musique mysterious mélancolique mélodie
new nice notes of orchestra organ orgue over pace paisible peaceful percussion percussions
piano piece pitched playful please pour powerful puissant puissante quick quiet rapid rapide
recorder relaxing rich sad simple slow soft solo sombre some song sparse string strings strong
sunny sur synth synthesizer synthé synthétiseur tempo the track triste trompette trumpet tune
un une unhurried upbeat vif violin violins violon violons vite vive walking with énergique
épique épuré épurée
`
    .trim()
    .split(/\s+/),
);
