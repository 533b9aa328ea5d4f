/** The words of training/caption.py that mean something to musicgen-tiny, without accents. */

export const VOCABULARY = new Set(
  `
a about above accompagne accompagnee accompanied accords acoustic acoustique adagio aigu aigue
aimerais ainsi air all alone along also an and andante arpege arpeges arpeggio arpeggios as
assez at au autre avec backed band bass basse bassist bassiste bassline batterie batteur be
beat beats bec big bpm brass bright broken bugle busy but by c calm calme can ce cello cellos
chanson charge chargee cheerful cheery chiptune chords church cinematic clair claire clavier
compose contrebasse cor cordes could create cree cuivres d danceable dark de deep dense des
dessus do donne double douce doucement doux dramatic dreamy driving drum drumbeat drummer
drumming drums du dynamique electro electronic electronica electronique else en energetic
energique ensemble ensoleille entend entendre epic epique epure epuree est et exciting facon
fais fanfare fast featuring feel feels few fiddle flautist flute flutes flutist flutiste for
fort forte french fun gai gaie gamme generate gentle give gloomy good grand grave graves
guitar guitare guitares guitarist guitariste guitars happy hard harmonies has hear heavy here
heroic heroique heureuse heureux high horn horns how hurried i il imagine in is it its itself
j je joined jolly joue jouee jouer joyeuse joyeux joyful joyous just keep key keyboard kit l
la le leisurely lent lente lentement lento les let light ligne like line lively lonely loop
loud loudly low lumineuse lumineux majeur majeure major make malheureux many me medium
melancholic melancholy melancolique mellow melodie melody merry mid mineur mineure minimal
minor mode moderate moderately modere moderee moi morceau mournful moyen music musique my
mysterious need next notes nothing now number of ominous on one only orchestra orchestre organ
organist organiste organs orgue orgues over own pace paced paisible pan par peaceful
percussion percussionist percussions peux pianist pianiste piano pianos piccolo piece pipe
pitched play played playful playing plays please plus pour powerful presto puissant puissante
quartet quatuor que qui quick quickly quiet quietly quite rapid rapide rapidement rapidly
really recorder relaxed relaxing reposant rich rien rushing rythme sad sadly sans scale
section set seul seule seulement should shrill simple sinister sinistre slow slowly so soft
softly soit solo sombre some someone something son song soothing sorrowful sound sounds sparse
speed speedy string strings strong sunny sur synth synthe synthesiser synthesizer synthesizers
synthetiseur synthetiseurs synths tambour tambours tearful tempo that the theme then there
this to together top tout toute track tranquil tranquille tres triste tristes trombone
trombones trompette trompettes trumpet trumpeter trumpets tu tuba tune ukulele un
unaccompanied une unhappy unhurried up upbeat us very veux vif viola violin violinist violins
violon violoncelle violoniste violons vite vive voici voudrais vraiment walking want we well
which whistle with woodwind would write y you
`
    .trim()
    .split(/\s+/),
);
