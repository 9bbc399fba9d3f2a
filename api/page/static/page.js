// Nothing here is needed: every page works by links, forms and reloading. This makes it move by itself.

const AGAIN_MS = 3000; // after the server refused a stream

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.title = time.dateTime;
    time.textContent = at.toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  }
}

/** Puts other markup into a part of the page; what is chosen, open or focused there stays so. */
function put(part, html) {
  const chosen = [...part.querySelectorAll("input:checked")].map((input) => input.value);
  const open = [...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]);
  const focus = part.contains(document.activeElement) && document.activeElement.id;
  part.innerHTML = html;
  for (const input of part.querySelectorAll("input[type=checkbox]")) input.checked = chosen.includes(input.value);
  for (const [id, was] of open) document.getElementById(id)?.toggleAttribute("open", was);
  if (focus) document.getElementById(focus)?.focus();
  localTimes(part);
}

/** Puts what the server draws now into a part of the page. */
async function swap(part) {
  const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
  if (answer.ok && !answer.redirected) put(part, await answer.text());
}

/**
 * A job: the server draws it anew whenever it has changed. The browser connects again by itself, and says what it has.
 * A tab that nobody sees lets its connection go, since a browser has but six to a server, and catches up when it is seen.
 */
function follow(part) {
  let seen = part.dataset.after, source = null, again = 0;
  const status = () => part.querySelector("[data-status]")?.dataset.status;
  const ended = () => part.querySelector("[data-ended]");
  function hush() {
    clearTimeout(again);
    source?.close();
    source = null;
  }
  function listen() {
    hush();
    if (document.hidden || ended()) return;
    source = new EventSource(`${part.dataset.stream}?after=${seen}`);
    source.addEventListener("live", (event) => {
      const before = status();
      seen = event.lastEventId;
      put(part, event.data);
      if (ended()) { hush(); location.reload(); } // what it brought is beside it
      else if (before !== status()) for (const other of document.querySelectorAll("[data-with-status]")) swap(other);
    });
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) again = setTimeout(listen, AGAIN_MS);
    };
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
  addEventListener("pagehide", hush);
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); }); // of one that the browser had kept
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

/** Files on their way: how far they are. Without this, the browser's own sign has to do. */
function uploading(form) {
  form.addEventListener("submit", (event) => {
    const files = [...form.querySelectorAll("input[type=file]")].filter((input) => input.files.length);
    if (!files.length) return;
    event.preventDefault();
    const data = new FormData(form, event.submitter), request = new XMLHttpRequest();
    const bar = document.createElement("progress");
    bar.setAttribute("aria-label", "Upload");
    files[0].after(bar);
    event.submitter.disabled = true;
    request.upload.onprogress = (sent) => { bar.max = sent.total; bar.value = sent.loaded; };
    request.onload = () => {
      if (request.responseURL !== form.action) return location.assign(request.responseURL);
      const page = new DOMParser().parseFromString(request.responseText, "text/html");
      const main = page.querySelector("main"); // with what was understood, or what is wrong
      document.querySelector("main").replaceWith(main);
      begin(main);
    };
    request.onerror = () => { bar.remove(); event.submitter.disabled = false; };
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "text/html");
    request.send(data);
  });
}

function copier(button) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}

/** Makes a part of the document move by itself. */
function begin(root) {
  localTimes(root);
  for (const part of root.querySelectorAll("[data-stream]")) follow(part);
  for (const part of root.querySelectorAll("[data-every]")) refresh(part);
  for (const form of root.querySelectorAll("form[data-plan]")) plan(form);
  for (const form of root.querySelectorAll("form[enctype='multipart/form-data']")) uploading(form);
  for (const range of root.querySelectorAll("input[data-for]")) slider(range);
  for (const button of root.querySelectorAll("button[data-copy]")) copier(button);
}

begin(document);
