// Nothing here is needed: every page works by links, forms and reloading. This makes it move by itself.

const EVENTS = ["status", "stage", "progress", "note", "structure"];
const QUIET_MS = 1000; // between two looks at one part
const AGAIN_MS = 3000; // after the server refused a stream

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.title = time.dateTime;
    time.textContent = at.toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  }
}

/** Puts what the server draws now into a part of the page; what is chosen, open or focused there stays so. */
async function swap(part) {
  const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const html = await answer.text();
  const chosen = [...part.querySelectorAll("input:checked")].map((input) => input.value);
  const open = [...part.querySelectorAll("details[open][id]")].map((details) => details.id);
  const focus = part.contains(document.activeElement) && document.activeElement.id;
  part.innerHTML = html;
  for (const input of part.querySelectorAll("input[type=checkbox]")) input.checked = chosen.includes(input.value);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focus) document.getElementById(focus)?.focus();
  localTimes(part);
}

/** Calls `work` soon, and never twice at once; what comes meanwhile is one more call. */
function seldom(work) {
  let busy = false, again = false;
  return async function run() {
    if (busy) { again = true; return; }
    busy = true;
    try { await work(); } catch { /* the server is away: the stream comes back, and asks anew */ }
    setTimeout(() => { busy = false; if (again) { again = false; run(); } }, QUIET_MS);
  };
}

/** A job: its stream of events says when to look. */
function follow(part) {
  const look = seldom(async () => {
    const before = part.querySelector("[data-status]")?.dataset.status;
    await swap(part);
    const now = part.querySelector("[data-status]")?.dataset.status;
    if (part.querySelector("[data-ended]")) location.reload(); // what it brought is drawn with the page
    else if (before !== now) await Promise.all([...document.querySelectorAll("[data-with-status]")].map(swap));
  });
  let seen = part.dataset.after;
  function listen() {
    const source = new EventSource(`${part.dataset.stream}?after=${seen}`);
    for (const kind of EVENTS) {
      source.addEventListener(kind, (event) => { seen = event.lastEventId; look(); });
    }
    source.onopen = look;
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it connects again by itself
      if (!part.querySelector("[data-ended]")) setTimeout(listen, AGAIN_MS);
      else look();
    };
  }
  listen();
}

/** A table: looked at every so many seconds, while somebody sees it and something in it may change. */
function refresh(part) {
  setInterval(() => {
    const idle = document.hidden || !part.querySelector("[data-active]") || part.contains(document.activeElement);
    if (!idle) swap(part).catch(() => {});
  }, 1000 * Number(part.dataset.every));
}

/** The form of a new job: its plan, and the same as JSON, are drawn anew when a field has changed. */
function plan(form) {
  const part = document.getElementById(form.dataset.plan), json = document.getElementById(form.dataset.json);
  let typed = false; // by hand: then it stays as it is
  json.addEventListener("input", () => { typed = true; });
  let wait = 0, latest = 0;
  form.addEventListener("change", () => {
    clearTimeout(wait);
    wait = setTimeout(async () => {
      const own = ++latest, data = new FormData(form);
      for (const [name, value] of [...data]) if (value instanceof File) data.delete(name);
      data.set("do", "plan-part");
      part.setAttribute("aria-busy", "true");
      const answer = await fetch(form.action, { method: "POST", body: data, headers: { Accept: "text/html" } });
      if (own !== latest) return;
      part.removeAttribute("aria-busy");
      if (answer.ok) part.innerHTML = await answer.text();
      const said = part.querySelector("#plan-json")?.value;
      if (said && !typed) json.value = said;
    }, 400);
  });
}

/** A slider and the field that it stands for. */
function slider(range) {
  const field = document.getElementById(range.dataset.for);
  const show = () => {
    const percent = field.value.trim().match(/^([\d.]+)\s*%$/);
    range.hidden = percent === null;
    if (percent) range.value = percent[1];
  };
  range.addEventListener("input", () => { field.value = `${range.value}%`; });
  range.addEventListener("change", () => field.dispatchEvent(new Event("change", { bubbles: true })));
  field.addEventListener("input", show);
  show();
}

function copier(button) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

localTimes(document);
for (const part of document.querySelectorAll("[data-stream]")) follow(part);
for (const part of document.querySelectorAll("[data-every]")) refresh(part);
for (const form of document.querySelectorAll("form[data-plan]")) plan(form);
for (const range of document.querySelectorAll("input[data-for]")) slider(range);
for (const button of document.querySelectorAll("button[data-copy]")) copier(button);
