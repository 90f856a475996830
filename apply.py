import sys,re,textwrap
W=109
edits={}
cur=None;f=None
for raw in open(sys.argv[1]).read().split('\n'):
    if raw.startswith('== '):
        f=raw[3:].strip(); edits.setdefault(f,[]); cur=None; continue
    m=re.fullmatch(r'(\d+)(?:-(\d+))?:?',raw)
    if m:
        cur=(int(m[1]),int(m[2] or m[1]),[]); edits[f].append(cur); continue
    if cur is None:
        if raw.strip(): print('stray:',raw)
        continue
    cur[2].append(raw)
PRE=re.compile(r'^(\s*)(//!|///|//|#)')
def fmt(indent,pre,texts):
    out=[]
    for t in texts:
        if t=='': out.append(indent+pre); continue
        if t.startswith('|') and not t.startswith('| '):
            out.append((indent+pre+' '+t[1:]).rstrip()); continue
        if t.startswith('| '): out.append(indent+pre+' '+t); continue
        m=re.match(r'(\s*)(- |\d+\. )',t)
        sub=' '*len(m[0]) if m else ''
        p=indent+pre+' '
        ls=textwrap.wrap(t,width=W-len(p),break_long_words=False,break_on_hyphens=False,subsequent_indent=sub) 
        for x in ls: out.append(p+x)
    return out
bad=0
for f,es in edits.items():
    L=open(f).read().split('\n')
    for a,b,t in sorted(es,key=lambda e:-e[0]):
        while t and t[-1]=='': t.pop()
        while t and t[0]=='' : t.pop(0)
        first=L[a-1]
        m=PRE.match(first)
        if not m:
            k=re.match(r'^(.*?\S\s+)// ',first)
            kp=re.match(r'^(.*?\S\s+)# ',first)
            c='//' 
            if f.endswith(('.py','.toml')): k=kp; c='#'
            if not k or a!=b or len(t)!=1: print('BAD trailing',f,a,first); bad=1; continue
            if t==['DEL']: L[a-1]=k[1].rstrip()
            else: L[a-1]=k[1]+c+' '+t[0]
            continue
        for i in range(a-1,b):
            mm=PRE.match(L[i])
            if not mm or mm[2]!=m[2]: print('BAD line',f,i+1,L[i]); bad=1
        if t==['DEL']: L[a-1:b]=[]
        else: L[a-1:b]=fmt(m[1],m[2],t)
    if not bad: open(f,'w').write('\n'.join(L))
print('applied' if not bad else 'FAILED (files after failure not written)')
