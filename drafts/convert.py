"""NN.py in percent format -> notebook. First line: # ncdlib: {json}."""
import json, re, sys, statistics, subprocess
src, dst = sys.argv[1:3]
text = open(src).read()
head, *parts = re.split(r"^# %%", text, flags=re.M)
meta = json.loads(head.split("# ncdlib:",1)[1].strip()) if "# ncdlib:" in head else {}
cells=[]
for i, part in enumerate(parts):
    first, body = part.split("\n",1)
    body = body.strip("\n")
    if "[markdown]" in first:
        lines=[l[2:] if l.startswith("# ") else l.lstrip("#") if l=="#" else l for l in body.split("\n")]
        cells.append({"cell_type":"markdown","id":f"{i:02d}","metadata":{},"source":"\n".join(lines).splitlines(True)})
    else:
        if "parameters" not in first:
            body=subprocess.run(["ruff","format","--line-length","88","--stdin-filename","x.py","-"],input=body,capture_output=True,text=True,check=True).stdout.strip("\n")
        tags=["parameters"] if "parameters" in first else []
        cells.append({"cell_type":"code","execution_count":None,"id":f"{i:02d}","metadata":{"tags":tags} if tags else {},"outputs":[],"source":body.splitlines(True)})
nb={"cells":cells,"metadata":{"kernelspec":{"display_name":"Python 3","language":"python","name":"python3"},"language_info":{"name":"python"},"ncdlib":meta},"nbformat":4,"nbformat_minor":5}
import subprocess
open(dst,"w").write(json.dumps(nb,indent=1,ensure_ascii=False)+"\n")
code=[c for c in cells if c["cell_type"]=="code"]; L=[len(c["source"]) for c in code]
W=max(len(l.rstrip("\n")) for c in code for l in c["source"])
words=lambda k: sum(len("".join(c["source"]).split()) for c in cells if c["cell_type"]==k)
print(len(code),"code",len(cells)-len(code),"prose; lines median",statistics.median(L),"max",max(L),"width",W,"words prose/code lines",round(words("markdown")/sum(L),1))
for a,b in zip(cells,cells[1:]):
    if a["cell_type"]==b["cell_type"]=="code": print("two code cells:", "".join(b["source"])[:60])

for c in code:
    if len(c["source"])>15: print("LONG",len(c["source"]),c["source"][0],c["source"][-1])
    for l in c["source"]:
        if len(l.rstrip())>88: print("WIDE",len(l.rstrip()),l)
