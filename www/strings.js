// Every text of the page, in English and Spanish. {name} is filled in.

const ENGLISH = {
  title: "Bubo – ask a picture and a sound",
  skip: "Skip to the question",
  language: "Language",
  tagline: "Show it a picture, play it a sound, ask. It answers in words and outlines each thing that it names – all inside this page.",
  model: "Model",
  modelFacts: "{name}: {size} to download, once; kept on this device. Licences: {licences}.",
  modelCached: "{name} is on this device already; nothing to download. Licences: {licences}.",
  modelPartlyCached: "{name}: {rest} of {size} still to download. Licences: {licences}.",
  modelReady: "{name} is ready, running here on {device}.",
  modelLoading: "{name} is loading. You can begin: each question waits for what it needs.",
  modelStopped: "Loading stopped. What is here already is kept.",
  modelReading: "Looking for the model …",
  modelMissing: "The model could not be found.",
  modelFailed: "The model is not loaded.",
  load: "Load {size}",
  loadCached: "Start the model",
  resume: "Go on loading",
  again: "Try again",
  onWebgpu: "the graphics card (WebGPU)",
  onWasm: "the processor (WebAssembly)",
  note_no_webgpu: "This browser has no WebGPU, so the model runs on the processor: everything works, but longer answers take several times as long. Current versions of Chrome, Edge and Safari have it.",
  note_no_cache: "This browser keeps nothing here (perhaps this is a private window), so the next visit downloads the model again.",
  note_no_adapter: "WebGPU found no graphics card, so the model runs on the processor: everything works, only slower.",
  note_faulty_gpu: "The graphics card here failed a test of its arithmetic, so the model runs on the processor: everything works, only slower.",
  note_software_gpu: "The graphics card here is imitated by the processor, so the model runs on the processor directly: everything works, only slower.",
  progress: "{loaded} of {total}",
  progressRate: "{loaded} of {total} · {rate}/s · {left} left",
  progressCache: "{loaded} of {total}, from this device",
  seconds: "{n} s",
  minutes: "{n} min",
  part_tagger: "Naming things",
  part_detector: "Finding things",
  part_segmenter: "Outlining",
  part_audio_encoder: "Hearing",
  part_text_embedder: "Matching words",
  part_language: "Answering",
  waiting: "waiting",
  ready: "ready",
  aboutTitle: "What this model is, and what it cannot do",
  aboutWhat: "bubo-mini is a demonstration made of six small pretrained networks, 170 million parameters in all. It names a picture by about a thousand classes, draws outlines best for eighty everyday kinds of thing (people, animals, vehicles, furniture, food), knows 521 kinds of sound, and hands what it saw and heard, as words and as embeddings that two small networks of our own make, to a language model of 135 million parameters, which words the answer.",
  aboutCannot: "It cannot read writing, recognise persons, count reliably, understand speech, or reason about a scene. It understands and answers English only. It is often wrong, and sounds sure when it is: trust the outlines, which show what an answer rests on, more than the words.",
  noLicence: "one part undeclared",
  picture: "Picture",
  dropPicture: "Drop a picture here, paste one, or choose a file",
  orSample: "or try one of these",
  sampleCredit: "{name} ({credit})",
  sample_Dog: "Dog",
  sample_Cows: "Cows",
  sample_Horses: "Horses",
  sample_Cat: "Cat",
  sample_Coffee: "Coffee",
  sample_Astronaut: "Astronaut",
  sample_Bark: "Bark",
  sample_Moo: "Moo",
  sample_Neigh: "Neigh",
  sample_Meow: "Meow",
  sample_Rain: "Rain",
  sample_Train: "Train",
  anotherPicture: "Another picture",
  anotherSound: "Another sound",
  remove: "Remove",
  savePicture: "Save PNG",
  pictureLabel: "The picture, with {count} things outlined: {things}",
  pictureLabelEmpty: "The picture that you chose",
  decoding: "Reading the picture …",
  waitingForModel: "Waiting for the model to load …",
  stage_detect: "Finding things …",
  stage_segment: "Outlining: {done} of {total} …",
  stage_listen: "Listening …",
  stage_read: "Reading the question: {percent} %",
  stage_answer: "Answering …",
  stage_match: "Tying the words to the outlines …",
  nothingFound: "Nothing found that it could outline. You can ask all the same.",
  found: { one: "Found one thing. Point at it, or at a word of an answer.", other: "Found {count} things. Point at one, or at a word of an answer; click to keep it." },
  thing: "{tag}, {percent} %",
  sound: "Sound",
  dropSound: "Drop a sound here or choose a file",
  record: "Record",
  recordStop: "Stop recording ({n} s)",
  noMicrophone: "The microphone cannot be used: {reason}. Allow it in the browser's address bar, or choose a file.",
  listening: "Reading the sound …",
  heard: "What it hears, along time:",
  heardNothing: "Nothing heard that it has a word for.",
  heardSound: "{tag}, {percent} %, from {start} to {end} s",
  play: "Play",
  pause: "Pause",
  seek: "Place in the sound",
  teachTitle: "Teach it your own",
  teachHint: "Choose a thing or a sound that you know, and name it. It is recognised from then on; two or three examples make it surer.",
  teachCannot: "This model cannot be taught: how its features compare has not been measured.",
  teachWhat: "This shows",
  teachName: "Name",
  teachNameHint: "Rex, our doorbell, thermos …",
  teachKind: "It is a kind of (in English, optional)",
  teachSend: "Teach",
  teachNot: "That is not {name}",
  teachThing: "Thing {n}: {tag}, {percent} %",
  teachPart: "A part: draw a box on the picture",
  teachPicture: "The whole picture",
  teachSpan: "{phrase}, {start} to {end} s",
  teachSound: "The whole sound",
  markLabel: "Marked part of the picture; arrow keys move it, with Shift they change its size",
  teachNameless: "Type a name first.",
  teachBusy: "Learning …",
  teachDone: { one: "Learnt: {name}, from one example. Show it another one to make it surer.", other: "Learnt: {name}, from {count} examples." },
  teachNotDone: "Learnt that this is not {name}.",
  taughtOpen: "Open file",
  taughtSave: "Save as file",
  taughtForget: "Forget all",
  taughtSure: "Really forget all?",
  taughtImported: "Taken from {name}.",
  taughtForgotten: "Everything is forgotten.",
  taughtGone: "{name} is forgotten.",
  taughtFrom_picture: { one: "one picture", other: "{count} pictures" },
  taughtFrom_sound: { one: "one sound", other: "{count} sounds" },
  taughtByYou: "Taught by you",
  taughtKept: "Kept in this browser's private storage for this page, on this device only; nothing is sent anywhere. It holds names and the networks' numbers, no pictures and no sounds.",
  taughtFault: "Not kept after this visit: {reason}. Save it as a file.",
  forget: "Forget",
  forgetName: "Forget {name}",
  conversation: "Conversation",
  hint: "Choose a picture, a sound, or both; then ask. Words that mean something in the picture take the colour of its outline.",
  question: "Your question",
  questionHint: "Your question …",
  ask: "Ask",
  stop: "Stop",
  clear: "Clear",
  saveJson: "Save JSON",
  copy: "Copy",
  copied: "Copied",
  you: "You",
  bubo: "Bubo",
  close: "Close",
  stopped: "Stopped.",
  stats: "{tokens} tokens · {rate} a second",
  computed: "Computed from the outlines and sounds.",
  emptyQuestion: "Write a question first; for example: What is in the picture?",
  longQuestion: "The question has {count} characters; the limit is 2,000. Shorten it.",
  notPictureOrSound: "“{name}” is neither a picture nor a sound. Drop a JPEG, PNG, WebP or GIF picture, or a WAV, MP3, OGG or FLAC sound.",
  error_fetch: "The page goes on; try again when it is mended.",
  error_corrupt: "Try again; if it stays so, the files on the server are damaged.",
  error_internal: "Load the model again; what you chose stays here.",
  error_out_of_memory: "Close other tabs and load the model again.",
  suggestions_picture: ["What is in the picture?", "Describe the picture."],
  suggestions_sound: ["What do you hear?", "What is making this sound?"],
  suggestions_both: ["Does the sound fit the picture?", "What is in the picture?", "What do you hear?"],
  privacy: "No server, no account: pictures, sounds and questions stay on this device.",
};

const SPANISH = {
  title: "Bubo – pregunta a una imagen y a un sonido",
  skip: "Ir a la pregunta",
  language: "Idioma",
  tagline: "Enséñale una imagen, ponle un sonido, pregunta. Responde con palabras y perfila cada cosa que nombra, todo dentro de esta página.",
  model: "Modelo",
  modelFacts: "{name}: {size} por descargar, una sola vez; se guarda en este dispositivo. Licencias: {licences}.",
  modelCached: "{name} ya está en este dispositivo; no hay nada que descargar. Licencias: {licences}.",
  modelPartlyCached: "{name}: faltan {rest} de {size}. Licencias: {licences}.",
  modelReady: "{name} está listo y funciona aquí, en {device}.",
  modelLoading: "{name} se está cargando. Puedes empezar: cada pregunta espera lo que necesita.",
  modelStopped: "Carga detenida. Lo que ya llegó se conserva.",
  modelReading: "Buscando el modelo …",
  modelMissing: "No se encontró el modelo.",
  modelFailed: "El modelo no está cargado.",
  load: "Cargar {size}",
  loadCached: "Iniciar el modelo",
  resume: "Seguir cargando",
  again: "Reintentar",
  onWebgpu: "la tarjeta gráfica (WebGPU)",
  onWasm: "el procesador (WebAssembly)",
  note_no_webgpu: "Este navegador no tiene WebGPU, así que el modelo usa el procesador: todo funciona, pero las respuestas largas tardan varias veces más. Las versiones actuales de Chrome, Edge y Safari lo tienen.",
  note_no_cache: "Este navegador no guarda nada aquí (quizá es una ventana privada), así que la próxima visita descargará el modelo otra vez.",
  note_no_adapter: "WebGPU no encontró tarjeta gráfica, así que el modelo usa el procesador: todo funciona, solo que más despacio.",
  note_faulty_gpu: "La tarjeta gráfica no superó una prueba de cálculo, así que el modelo usa el procesador: todo funciona, solo que más despacio.",
  note_software_gpu: "Aquí el procesador imita la tarjeta gráfica, así que el modelo usa el procesador directamente: todo funciona, solo que más despacio.",
  progress: "{loaded} de {total}",
  progressRate: "{loaded} de {total} · {rate}/s · faltan {left}",
  progressCache: "{loaded} de {total}, desde este dispositivo",
  seconds: "{n} s",
  minutes: "{n} min",
  part_tagger: "Nombrar cosas",
  part_detector: "Encontrar cosas",
  part_segmenter: "Perfilar",
  part_audio_encoder: "Oír",
  part_text_embedder: "Unir palabras",
  part_language: "Responder",
  waiting: "en espera",
  ready: "listo",
  aboutTitle: "Qué es este modelo y qué no sabe hacer",
  aboutWhat: "bubo-mini es una demostración hecha de seis redes pequeñas ya entrenadas, 170 millones de parámetros en total. Nombra una imagen con unas mil clases, perfila mejor ochenta clases de cosas cotidianas (personas, animales, vehículos, muebles, comida), conoce 521 clases de sonido, y entrega lo que vio y oyó, en palabras y en vectores que hacen dos redes pequeñas nuestras, a un modelo de lenguaje de 135 millones de parámetros, que redacta la respuesta.",
  aboutCannot: "No sabe leer letreros, reconocer personas, contar con seguridad, entender el habla ni razonar sobre una escena. Entiende y responde solo en inglés. Se equivoca a menudo y aun así suena seguro: fíate más de los contornos, que muestran en qué se apoya la respuesta, que de las palabras.",
  noLicence: "una parte sin declarar",
  picture: "Imagen",
  dropPicture: "Suelta aquí una imagen, pégala o elige un archivo",
  orSample: "o prueba una de estas",
  sampleCredit: "{name} ({credit})",
  sample_Dog: "Perro",
  sample_Cows: "Vacas",
  sample_Horses: "Caballos",
  sample_Cat: "Gato",
  sample_Coffee: "Café",
  sample_Astronaut: "Astronauta",
  sample_Bark: "Ladrido",
  sample_Moo: "Mugido",
  sample_Neigh: "Relincho",
  sample_Meow: "Maullido",
  sample_Rain: "Lluvia",
  sample_Train: "Tren",
  anotherPicture: "Otra imagen",
  anotherSound: "Otro sonido",
  remove: "Quitar",
  savePicture: "Guardar PNG",
  pictureLabel: "La imagen, con {count} cosas perfiladas: {things}",
  pictureLabelEmpty: "La imagen que elegiste",
  decoding: "Leyendo la imagen …",
  waitingForModel: "Esperando a que cargue el modelo …",
  stage_detect: "Encontrando cosas …",
  stage_segment: "Perfilando: {done} de {total} …",
  stage_listen: "Escuchando …",
  stage_read: "Leyendo la pregunta: {percent} %",
  stage_answer: "Respondiendo …",
  stage_match: "Uniendo las palabras con los contornos …",
  nothingFound: "No encontró nada que pueda perfilar. Puedes preguntar igualmente.",
  found: { one: "Encontró una cosa. Señálala, o señala una palabra de una respuesta.", other: "Encontró {count} cosas. Señala una, o una palabra de una respuesta; haz clic para fijarla." },
  thing: "{tag}, {percent} %",
  sound: "Sonido",
  dropSound: "Suelta aquí un sonido o elige un archivo",
  record: "Grabar",
  recordStop: "Parar la grabación ({n} s)",
  noMicrophone: "No se puede usar el micrófono: {reason}. Permítelo en la barra de direcciones o elige un archivo.",
  listening: "Leyendo el sonido …",
  heard: "Lo que oye, a lo largo del tiempo:",
  heardNothing: "No oyó nada para lo que tenga una palabra.",
  heardSound: "{tag}, {percent} %, de {start} a {end} s",
  play: "Reproducir",
  pause: "Pausa",
  seek: "Lugar en el sonido",
  teachTitle: "Enséñale lo tuyo",
  teachHint: "Elige una cosa o un sonido que conozcas y ponle nombre. Desde entonces lo reconoce; con dos o tres ejemplos acierta más.",
  teachCannot: "A este modelo no se le puede enseñar: no se ha medido cómo se comparan sus rasgos.",
  teachWhat: "Esto muestra",
  teachName: "Nombre",
  teachNameHint: "Rex, our doorbell, thermos …",
  teachKind: "Es una clase de (en inglés, opcional)",
  teachSend: "Enseñar",
  teachNot: "Eso no es {name}",
  teachThing: "Cosa {n}: {tag}, {percent} %",
  teachPart: "Una parte: dibuja un recuadro en la imagen",
  teachPicture: "La imagen entera",
  teachSpan: "{phrase}, de {start} a {end} s",
  teachSound: "El sonido entero",
  markLabel: "Parte marcada de la imagen; las flechas la mueven y con Mayús cambian su tamaño",
  teachNameless: "Escribe primero un nombre.",
  teachBusy: "Aprendiendo …",
  teachDone: { one: "Aprendido: {name}, con un ejemplo. Muéstrale otro para que acierte más.", other: "Aprendido: {name}, con {count} ejemplos." },
  teachNotDone: "Aprendido: eso no es {name}.",
  taughtOpen: "Abrir archivo",
  taughtSave: "Guardar archivo",
  taughtForget: "Olvidar todo",
  taughtSure: "¿Olvidar todo de verdad?",
  taughtImported: "Tomado de {name}.",
  taughtForgotten: "Todo olvidado.",
  taughtGone: "Olvidado: {name}.",
  taughtFrom_picture: { one: "una imagen", other: "{count} imágenes" },
  taughtFrom_sound: { one: "un sonido", other: "{count} sonidos" },
  taughtByYou: "Enseñado por ti",
  taughtKept: "Se guarda en el almacenamiento privado de este navegador para esta página, solo en este dispositivo; no se envía nada. Contiene nombres y números de las redes, ni imágenes ni sonidos.",
  taughtFault: "No se conserva después de esta visita: {reason}. Guárdalo como archivo.",
  forget: "Olvidar",
  forgetName: "Olvidar {name}",
  conversation: "Conversación",
  hint: "Elige una imagen, un sonido o ambos; luego pregunta (en inglés). Las palabras que nombran algo de la imagen toman el color de su contorno.",
  question: "Tu pregunta",
  questionHint: "Tu pregunta, en inglés …",
  ask: "Preguntar",
  stop: "Parar",
  clear: "Borrar",
  saveJson: "Guardar JSON",
  copy: "Copiar",
  copied: "Copiado",
  you: "Tú",
  bubo: "Bubo",
  close: "Cerrar",
  stopped: "Detenido.",
  stats: "{tokens} fichas · {rate} por segundo",
  computed: "Calculado a partir de los contornos y los sonidos.",
  emptyQuestion: "Escribe primero una pregunta; por ejemplo: What is in the picture?",
  longQuestion: "La pregunta tiene {count} caracteres; el límite es 2000. Acórtala.",
  notPictureOrSound: "«{name}» no es ni imagen ni sonido. Suelta una imagen JPEG, PNG, WebP o GIF, o un sonido WAV, MP3, OGG o FLAC.",
  error_fetch: "La página sigue; reinténtalo cuando esté arreglado.",
  error_corrupt: "Reinténtalo; si sigue igual, los archivos del servidor están dañados.",
  error_internal: "Carga el modelo otra vez; lo que elegiste sigue aquí.",
  error_out_of_memory: "Cierra otras pestañas y carga el modelo otra vez.",
  suggestions_picture: ["What is in the picture?", "Describe the picture."],
  suggestions_sound: ["What do you hear?", "What is making this sound?"],
  suggestions_both: ["Does the sound fit the picture?", "What is in the picture?", "What do you hear?"],
  privacy: "Sin servidor ni cuenta: imágenes, sonidos y preguntas se quedan en este dispositivo.",
};

const LANGUAGES = { en: ENGLISH, es: SPANISH };
let language = "en";

/** The language now, as BCP 47. */
export function currentLanguage() {
  return language;
}

/** The remembered language, else the browser's first that there is. */
export function preferredLanguage() {
  const wanted = [remembered(), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  return wanted.find((tag) => tag in LANGUAGES) ?? "en";
}

/** The language of the last visit; a browser may forbid remembering. */
function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null;
  }
}

/** Keeps the choice for the next visit, where the browser allows it. */
export function rememberLanguage(tag) {
  try {
    localStorage.setItem("language", tag);
  } catch {
    // Chosen again next time.
  }
}

/** Sets the language and every marked text of the document. */
export function setLanguage(tag) {
  language = tag in LANGUAGES ? tag : "en";
  document.documentElement.lang = language;
  document.title = text("title");
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-said]")) element.textContent = text(...JSON.parse(element.dataset.said));
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
}

/** Puts a text into an element, which follows later changes of language. @param {HTMLElement} element */
export function say(element, key, values = {}) {
  element.dataset.said = JSON.stringify([key, values]);
  element.textContent = text(key, values);
}

/** A text by its key; numbers are written as the language does. */
export function text(key, values = {}) {
  if (!key) return "";
  let found = LANGUAGES[language][key] ?? ENGLISH[key] ?? key;
  if (found.other) found = found[new Intl.PluralRules(language).select(values.count)] ?? found.other;
  if (Array.isArray(found)) return found;
  return found.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? number(values[name]) : values[name] ?? ""));
}

/** Whether there is such a text. */
export function hasText(key) {
  return key in ENGLISH;
}

/** @param {number} value @param {number} [digits] behind the point */
export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);
}

/** Bytes as people read them. */
export function size(bytes) {
  if (bytes < 1e6) return `${number(bytes / 1e3)} kB`;
  return `${number(bytes / 1e6, bytes < 1e7 ? 1 : 0)} MB`;
}

/** A time to wait. */
export function wait(seconds) {
  return seconds < 90 ? text("seconds", { n: Math.max(1, Math.ceil(seconds)) }) : text("minutes", { n: Math.ceil(seconds / 60) });
}
