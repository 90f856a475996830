import subprocess,re,sys
fs=subprocess.run(['git','diff','HEAD','--name-only'],capture_output=True,text=True).stdout.split()
def strip(t,py):
    o=[]
    for l in t.split('\n'):
        if re.match(r'\s*(#(?![\[!])|#$)' if py else r'\s*//',l): continue
        l=re.sub(r'(\S)\s+# .*$' if py else r'(\S)\s+// .*$',r'\1',l)
        o.append(l)
    return o
ok=True
for f in fs:
    a=subprocess.run(['git','show','HEAD:'+f],capture_output=True,text=True).stdout
    b=open(f).read()
    py=f.endswith(('.py','.toml'))
    if strip(a,py)!=strip(b,py):
        ok=False; print('CODE CHANGED',f)
    # links
    for t,n in ((a,0),(b,1)):
        pass
    la=sorted(set(re.findall(r'\[`[^`]+`\]',a))); lb=sorted(set(re.findall(r'\[`[^`]+`\]',b)))
    if la!=lb: print('links',f,'lost',set(la)-set(lb),'new',set(lb)-set(la))
    for i,l in enumerate(b.split('\n')):
        if re.match(r'\s*//',l) and len(l)>112: print('long',f,i+1,len(l))
print('checked',len(fs),ok)
