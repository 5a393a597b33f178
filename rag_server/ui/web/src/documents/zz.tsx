import "../styles/tokens.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import axe from "axe-core";
import { useRoute } from "../router";
import { DocumentPanel } from "./DocumentPanel";
import { DocumentView } from "./DocumentView";
import { documentPanel } from "./panel";
Object.assign(window, { documentPanel, axe });
function Zz() { const r = useRoute(); return <div style={{display:"flex", height:"100vh"}}><main style={{flex:1,minWidth:0,height:"100%"}}>{r.name==="passage" ? <DocumentView passageId={r.passageId} quote={null}/> : <button id="opener" type="button" onClick={() => documentPanel.getState().open({passageId: 1, quote: null})}>open</button>}</main><DocumentPanel/></div>; }
createRoot(document.getElementById("root")!).render(<StrictMode><Zz/></StrictMode>);
