"""What hostile documents, models and people write: each would set `window.hacked`, ask a foreign host, or lead away."""

FOREIGN = "http://foreign.example"
RUN = "window.hacked=1"

HTML = [
    f"<script>{RUN}</script>",
    f"<script src='{FOREIGN}/a.js'></script>",
    f"<img src=x onerror='{RUN}'>",
    f"<img src='{FOREIGN}/pixel.png' alt='a picture' srcset='{FOREIGN}/2x.png 2x'>",
    f"<a href='javascript:{RUN}'>script link</a>",
    f"<a href=' java&#10;script:{RUN}'>broken script link</a>",
    f"<a href='data:text/html,<script>{RUN}</script>'>data link</a>",
    f"<a href='{FOREIGN}/page' target='_self' onclick='{RUN}' ping='{FOREIGN}/ping'>web link</a>",
    "<a href='/v1/files'>path link</a>",
    f"<iframe src='{FOREIGN}/frame'></iframe>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    f"<svg onload='{RUN}'><script>{RUN}</script><image href='{FOREIGN}/i.svg'/></svg>",
    f"<svg><a href='javascript:{RUN}'><text>drawn link</text></a><use href='{FOREIGN}/u.svg#a'/></svg>",
    f"<meta http-equiv='refresh' content='0;url={FOREIGN}/refresh'>",
    f"<base href='{FOREIGN}/'>",
    f"<link rel='stylesheet' href='{FOREIGN}/s.css'><link rel='preload' as='image' href='{FOREIGN}/p.png'>",
    f"<style>@import url({FOREIGN}/i.css); body {{ background: url({FOREIGN}/b.png) }} .chat {{ display: none }}</style>",
    f"<p style='background:url({FOREIGN}/c.png);position:fixed;inset:0;z-index:9999'>over everything</p>",
    f"<form action='{FOREIGN}/form'><input name='a' autofocus onfocus='{RUN}'><button>Send</button></form>",
    f"<object data='{FOREIGN}/o.swf'></object><embed src='{FOREIGN}/e.swf'>",
    f"<video poster='{FOREIGN}/v.png' src='{FOREIGN}/v.mp4' onerror='{RUN}' autoplay></video>",
    f"<audio src='{FOREIGN}/a.mp3' autoplay></audio>",
    f"<details open ontoggle='{RUN}'><summary>more</summary>within</details>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror={RUN}&gt;'>",
    f"<noscript><p title='</noscript><img src=x onerror={RUN}>'></p></noscript>",
    f"<template><img src=x onerror='{RUN}'></template>",
    "<div id='root'></div><input id='question' name='getElementById'><form name='body'></form>",
    f"<body onload='{RUN}' background='{FOREIGN}/bg.png'>",
    f"<marquee onstart='{RUN}'>moving</marquee><dialog open>a dialog</dialog>",
]
MARKDOWN = [
    f"![picture]({FOREIGN}/pixel.png)",
    f"[![picture]({FOREIGN}/badge.png)](javascript:{RUN})",
    f"[script](javascript:{RUN}) [entity](javascript&colon;{RUN}) [spaces](<java\tscript:{RUN}>)",
    f"[data](data:text/html;base64,PHNjcmlwdD4=) [vb](vbscript:{RUN}) [path](/v1/files) [file](file:///etc/passwd)",
    f"<javascript:{RUN}> [by name][a]\n\n[a]: javascript:{RUN}",
    f"[web]({FOREIGN}/page)",
    f"$\\href{{javascript:{RUN}}}{{x}}$ $\\includegraphics{{{FOREIGN}/t.png}}$",
    f"$\\htmlStyle{{background:url({FOREIGN}/k.png)}}{{x}}$",
    "$$\\def\\a{\\a\\a}\\a$$ $\\rule{100000em}{100000em}$",
    f"```html\n<script>{RUN}</script>\n```",
    f'```mermaid\ngraph TD; a["<img src=x onerror={RUN}>"]\n```',
    "- [ ] a box\n- [x] another",
]
TEXTS = [*HTML, *MARKDOWN]
FILENAMES = [
    f"<img src=x onerror={RUN}>.md",
    f"'><script>{RUN}<script>.txt",
    "gpj.\u202edm.md",
    f"{'long' * 50}.md",
]

LINKS = "() => [...document.querySelectorAll('main a[href], .doc-panel a[href]')].map((a) => [a.href, a.target, a.rel])"
# What a sanitiser lets through by mistake is in the tree, whether or not the browser did anything with it yet.
FORBIDDEN = """() => [...document.querySelectorAll("body *")].flatMap((element) => {
  const name = element.tagName.toLowerCase();
  const bad = ["script", "iframe", "object", "embed", "base", "meta", "link", "style", "template", "video", "audio", "image"]
    .includes(name) ? [name] : [];
  const attributes = [...element.attributes].filter(({ name: key, value }) =>
    key.startsWith("on") || /^\\s*javascript:/i.test(value) || (key === "style" && /url\\(/i.test(value)) ||
    ["srcdoc", "ping", "formaction", "background", "srcset"].includes(key) ||
    (key === "src" && name === "img"));
  return [...bad, ...attributes.map(({ name: key, value }) => `${name} ${key}=${value}`)];
})"""
